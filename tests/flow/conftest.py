"""Real servers, started once for a session: one on `sim`, and one for each real engine that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from server import REAL, Server, openai_client


@pytest.fixture(scope="session")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose steps cost nothing."""
    with Server(tmp_path_factory.mktemp("sim")) as server:
        yield server


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes its time: about 50 tokens/s."""
    with Server(tmp_path_factory.mktemp("slow"), model="sim:llama-125m-openvino-2core") as server:
        yield server


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", params=["sim", *REAL])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each engine in turn; the real ones run the starter."""
    if request.param == "sim":
        yield request.getfixturevalue("sim")
        return
    with Server(tmp_path_factory.mktemp(request.param), request.param, "starter", spec={"max_batch": 8}) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai_client(server) as client:
        yield client


@pytest.fixture
def http(sim: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sim.url, timeout=30, trust_env=False) as client:
        yield client
