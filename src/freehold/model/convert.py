"""Safetensors to GGUF without torch: what `prepared` gives is a file every engine can open.

Tensors stream one at a time through numpy, so memory stays small; the result is cached by its inputs.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from contextlib import suppress
from functools import partial
from math import prod
from pathlib import Path

from freehold.errors import ModelError
from freehold.model.chatfiles import tokenizer_values
from freehold.model.encode import BLOCK, encoded
from freehold.model.families import Plan, plan
from freehold.model.gguf_format import Value
from freehold.model.gguf_write import Tensor, write_gguf
from freehold.model.lock import one_at_a_time
from freehold.model.safetensors import header_bytes, read_checkpoint, shard_files
from freehold.model.source import Report, Source, silent
from freehold.model.tokenizer import read_json

CONVERTER = 1
"""Part of the cache's key: raise it whenever the output changes."""
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
"""`general.file_type` of each quantization."""
_ABANDONED_S = 3600.0
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)


def prepared(source: Source, cache_dir: Path, quantization: str = "q8_0", report: Report = silent) -> tuple[Path, bool]:
    """The GGUF of `source`, and whether it was there already (no conversion was needed).

    A `gguf` source is its own file: `(path, True)`. A `safetensors` source is converted once to
    `cache_dir/gguf/<name>-<quantization>-<hash>.gguf`, `quantization` being q8_0, f16, bf16 or f32. `report`
    hears of bytes written and of remarks (rows that can't be quantised, a context cut to the sliding window).
    Raises `ModelError` for other kinds (ir, remote, sim have no GGUF) and for what can't be converted.
    """
    if source.kind == "gguf":
        return Path(source.path), True
    if source.kind != "safetensors":
        raise ModelError(f"There is no GGUF of {source.label}.", "Only safetensors can be converted.")
    if quantization not in FILE_TYPES:
        raise ModelError(f"Weights can't be converted to {quantization!r}.", f"Known are {', '.join(FILE_TYPES)}.")
    folder = Path(source.path)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.name).strip("-.") or "model"
    path = cache_dir / "gguf" / f"{stem}-{quantization}-{_key(folder, source.name, quantization)}.gguf"
    if path.is_file():
        return path, True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path.with_suffix(".lock")):
            if path.is_file():  # another worker was quicker
                return path, True
            _sweep(path)
            convert(folder, path, source.name, quantization, report)
    except OSError as error:
        raise ModelError(
            f"Can't write {path}.", f"{error.strerror}.", "Make room there, or set FREEHOLD_HOME to another disk."
        ) from error
    return path, False


def _sweep(path: Path) -> None:
    """Remove drafts that killed conversions left behind: this file's, and old ones of others. The lock is held."""
    import psutil  # only who converts pays for it

    for draft in path.parent.glob(".*.gguf.*.part"):
        name, _, number = draft.name[1:].removesuffix(".part").rpartition(".")
        if not number.isdigit() or psutil.pid_exists(int(number)):
            continue
        # A process of another container isn't seen from here, so a draft of another file must be old as well.
        with suppress(OSError):
            if name == path.name or time.time() - draft.stat().st_mtime > _ABANDONED_S:
                draft.unlink()


def convert(folder: Path, path: Path, name: str, quantization: str, report: Report = silent) -> None:
    """Write the GGUF of the checkpoint in `folder` to `path`, whatever lies there. Raises `ModelError`, `OSError`."""
    config = read_json(folder / "config.json", "It says what shape the model has.")
    made = plan(config, read_checkpoint(folder))
    rows = next(tensor.stored.shape[0] for tensor in made.tensors if tensor.name == "token_embd.weight")
    values: dict[str, Value] = {
        "general.architecture": made.arch,
        "general.type": "model",
        "general.name": name,
        "general.file_type": FILE_TYPES[quantization],
        "general.quantization_version": 2,
        **made.values,
        **tokenizer_values(folder, config, rows),
    }
    tensors = _tensors(made, quantization)
    total = sum(tensor.nbytes for tensor in tensors)
    _check_room(path, total)
    for remark in [*made.remarks, *_odd_rows(tensors, quantization)]:
        report(remark, 0, 0)
    done = 0

    def wrote(size: int) -> None:
        nonlocal done
        done += size
        report(f"converting {name} to {quantization}", done, total)

    write_gguf(path, values, tensors, wrote)


def _tensors(made: Plan, quantization: str) -> list[Tensor]:
    tensors = []
    for planned in made.tensors:
        shape = planned.stored.shape
        kind = _type(shape, quantization)
        chunks = partial(encoded, planned.name, planned.stored, kind, planned.order)
        tensors.append(Tensor(planned.name, shape, kind, chunks))
    if made.rope_divisors is not None:
        divisors = made.rope_divisors
        tensors.append(Tensor("rope_freqs.weight", divisors.shape, "F32", lambda: iter((divisors,))))
    return tensors


def _type(shape: tuple[int, ...], quantization: str) -> str:
    """Norms and biases stay f32; rows that Q8_0's blocks don't divide stay f16."""
    if len(shape) == 1:
        return "F32"
    if quantization == "q8_0" and shape[-1] % BLOCK:
        return "F16"
    return quantization.upper()


def _odd_rows(tensors: list[Tensor], quantization: str) -> list[str]:
    odd = [tensor for tensor in tensors if len(tensor.shape) > 1 and tensor.type != quantization.upper()]
    if not odd:
        return []
    share = sum(prod(tensor.shape) for tensor in odd) / sum(prod(tensor.shape) for tensor in tensors)
    return [
        f"{len(odd)} tensors ({share:.0%} of the weights) stay f16: their rows "
        f"({odd[0].shape[-1]} in {odd[0].name}) aren't a multiple of {BLOCK}."
    ]


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed * 1.02:
        raise ModelError(
            f"No room for the converted model in {path.parent}.",
            f"It needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free.",
            "Make room there, or set FREEHOLD_HOME to another disk.",
        )


def _key(folder: Path, name: str, quantization: str) -> str:
    """A hash of everything the output depends on; of the weights, their headers, sizes and times."""
    digest = hashlib.sha256(f"{CONVERTER} {quantization} {name}".encode())
    for small in SMALL_FILES:
        file = folder / small
        digest.update(f"\0{small}\0".encode() + (file.read_bytes() if file.is_file() else b""))
    for file in shard_files(folder):
        status = file.stat()
        digest.update(f"\0{file.name} {status.st_size} {status.st_mtime_ns}\0".encode() + header_bytes(file))
    return digest.hexdigest()[:16]
