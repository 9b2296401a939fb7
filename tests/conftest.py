"""What all kinds of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redis_server import RedisServer, running


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that don't kill it; each takes a prefix of its own."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server
