"""The engines that the conformance suite runs against, each loaded once for a test file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import Drive
from freehold.engine.base import Engine
from freehold.engine.sim.engine import SimEngine
from servers import SimServer
from specs import NAMES, make, sim_spec, timed


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted and compiled models of the real engines."""
    return tmp_path_factory.mktemp("cache")


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
