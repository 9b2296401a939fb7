"""What a model will take in memory and time, guessed from its files before it was ever loaded. What is measured then
takes the guesses' place.
"""

from __future__ import annotations

from pathlib import Path

from freehold.engine.base import EngineSpec
from freehold.engine.sim.engine import DEFAULT_PROFILE
from freehold.profile import Profile, open_profile

PROCESS_BYTES = {"openvino": 160 << 20, "llamacpp": 115 << 20, "remote": 50 << 20, "sim": 50 << 20}
"""A worker with its library and a model of no size."""
START_S = 1.0
"""A process, until it begins to load."""
READ_BYTES_PER_S = 200e6
"""Of weights, from a disk that is no better than it must be."""
_BYTES = {"q8_0": 1.0625, "f16": 2.0, "bf16": 2.0, "f32": 4.0}
"""Of one weight after conversion; on a hub they have two."""
_WEIGHTS = (".safetensors", ".bin", ".gguf")


def expected_bytes(spec: EngineSpec) -> int:
    """Of one worker: its weights, its KV cache where that is set, and the process."""
    return PROCESS_BYTES[spec.engine] + spec.kv_cache_bytes + _weights_bytes(spec)


def expected_load_s(spec: EngineSpec) -> float:
    """Of one worker, from its start to being ready."""
    if spec.engine == "sim":
        return START_S + sum(phase.seconds for phase in _played(spec).load)
    return START_S + _weights_bytes(spec) / READ_BYTES_PER_S


def _weights_bytes(spec: EngineSpec) -> int:
    source = spec.source
    if source.kind == "sim":
        return _played(spec).weight_bytes
    if source.kind == "remote":
        return 0
    path = Path(source.path)
    files = [path] if path.is_file() else [each for each in path.iterdir() if each.suffix in _WEIGHTS]
    size = sum(file.stat().st_size for file in files)
    return int(size * _BYTES.get(spec.quantization, 2.0) / 2.0) if source.kind == "safetensors" else size


def _played(spec: EngineSpec) -> Profile:
    return open_profile(spec.profile or spec.source.path or DEFAULT_PROFILE)
