"""The engines that the conformance suite runs against, each loaded once for a test file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import freehold
from conformance import Drive
from freehold.engine.base import Engine, EngineSpec
from freehold.engine.choose import build
from freehold.engine.remote.engine import RemoteEngine
from freehold.engine.sim.engine import SimEngine
from freehold.model.source import Source
from servers import SimServer

CONTEXT_TOKENS = 512
MAX_BATCH = 8
STARTER = Path(freehold.__file__).parent / "starter"
NAMES = ["sim", "remote", "openvino", "llamacpp"]


def timed(phase: str, detail: str) -> AbstractContextManager[None]:
    return nullcontext()


def spec(engine: Any, source: Source, cache: Path, **fields: Any) -> EngineSpec:
    fields = {"context_tokens": CONTEXT_TOKENS, "max_batch": MAX_BATCH, **fields}
    return EngineSpec(engine=engine, source=source, name="m", cache_dir=str(cache), **fields)


def sim_spec(profile: str = "starter-openvino-2core", **fields: Any) -> EngineSpec:
    source = Source(kind="sim", path=profile, label=f"profile {profile}", name=profile)
    return spec("sim", source, Path(), profile=profile, **{"sim_speed": 0.0, **fields})


def remote_spec(url: str, **fields: Any) -> EngineSpec:
    source = Source(kind="remote", path=url, label=url, name="there")
    return spec("remote", source, Path(), **{"context_tokens": 0, "remote_timeout_s": 10.0, **fields})


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted and compiled models of the real engines."""
    return tmp_path_factory.mktemp("cache")


def make(name: str, cache: Path, server: SimServer) -> Engine:
    """An engine that is not loaded yet."""
    if name == "sim":
        return SimEngine(sim_spec())
    if name == "remote":
        return RemoteEngine(remote_spec(server.url, context_tokens=CONTEXT_TOKENS))
    source = Source(kind="safetensors", path=str(STARTER), label="the built-in starter", name="starter")
    return build(spec(name, source, cache, threads=2))


@pytest.fixture(scope="module")
def sim_server() -> Iterator[SimServer]:
    with SimServer(SimEngine(sim_spec())) as server:
        yield server


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest, cache: Path, sim_server: SimServer) -> Iterator[Engine]:
    engine = make(request.param, cache, sim_server)
    engine.load(timed)
    yield engine
    engine.close()


@pytest.fixture
def drive(loaded: Engine) -> Iterator[Drive]:
    """A loaded engine with nothing running, and nothing left running."""
    drive = Drive(loaded)
    yield drive
    for id, _ in list(drive.answers):
        loaded.abort(id)
    drive.until(lambda: all(answer.ended for answer in drive.answers.values()))
    stats = loaded.stats()
    assert (stats.running, stats.waiting) == (0, 0)


@pytest.fixture(params=NAMES)
def fresh(request: pytest.FixtureRequest, cache: Path, sim_server: SimServer) -> Iterator[Engine]:
    """An engine of the test's own, loaded."""
    engine = make(request.param, cache, sim_server)
    engine.load(timed)
    yield engine
    engine.close()
