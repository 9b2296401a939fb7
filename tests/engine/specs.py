"""How the tests describe the engines they load."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import freehold
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
    fields = {"context_tokens": CONTEXT_TOKENS, "max_batch": MAX_BATCH, "name": "m", **fields}
    return EngineSpec(engine=engine, source=source, cache_dir=str(cache), **fields)


def sim_spec(profile: str = "starter-openvino-2core", **fields: Any) -> EngineSpec:
    source = Source(kind="sim", path=profile, label=f"profile {profile}", name=profile)
    return spec("sim", source, Path(), profile=profile, **{"sim_speed": 0.0, **fields})


def remote_spec(url: str, **fields: Any) -> EngineSpec:
    source = Source(kind="remote", path=url, label=url, name="there")
    return spec("remote", source, Path(), **{"context_tokens": 0, "remote_timeout_s": 10.0, **fields})


def make(name: str, cache: Path, server: SimServer) -> Engine:
    """An engine that is not loaded yet."""
    if name == "sim":
        return SimEngine(sim_spec())
    if name == "remote":
        return RemoteEngine(remote_spec(server.url, context_tokens=CONTEXT_TOKENS))
    source = Source(kind="safetensors", path=str(STARTER), label="the built-in starter", name="starter")
    return build(spec(name, source, cache, threads=2))
