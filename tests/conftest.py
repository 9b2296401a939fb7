"""What all kinds of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from redis_server import RedisServer, running

settings.register_profile("freehold", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("freehold")  # a test is about what comes out, whatever else the machine does meanwhile


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that don't kill it; each takes a prefix of its own."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server
