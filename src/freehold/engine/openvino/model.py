"""Opens a model for the `openvino` engine: converts it once, keeps the result, and builds the pipeline.

A GGUF is converted to OpenVINO's own form (IR) below `cache_dir/openvino/`, and made slim; the next start maps that.
The folder gets its name only when whole, and a manifest of sizes and checksums in it is checked before use, so a
half-written or damaged one is made again. OpenVINO's own CACHE_DIR is of no use here: in 2026.4 the pipeline's blob
can't be read back (the head sizes of its paged attention aren't written), so every start compiles; the vocabulary is
read meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.engine.base import EngineSpec, Timer
from freehold.engine.facts import Facts, kv_budget_bytes, of_gguf, of_ir
from freehold.engine.openvino.fit import why_not
from freehold.engine.openvino.said import LIBRARY_ERRORS, said
from freehold.engine.openvino.slim import slim
from freehold.engine.remarks import context_of, cut_by_memory, remarking
from freehold.errors import ModelError
from freehold.machine import cores
from freehold.model.convert import prepared
from freehold.model.encoder import Encoder
from freehold.model.gguf_read import describe
from freehold.model.lock import one_at_a_time
from freehold.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from openvino_genai import ContinuousBatchingPipeline, Tokenizer

BLOCK_TOKENS = 32
"""Of the CPU plugin's KV cache."""
BATCHED_TOKENS = 256
"""Most tokens in one step, running answers first: what is left reads prompts in pieces."""
_MANIFEST = "complete.json"
_CONVERTER = 3
"""Part of the cache's key: raise it whenever the conversion changes."""
_WHOLE_BYTES = 4 << 20
_ABANDONED_S = 3600.0


@dataclass(slots=True)
class OpenModel:
    """A model ready for use. `pipeline` may be replaced by `rebuild()` after it broke."""

    facts: Facts
    vocabulary: Vocabulary
    encoder: Encoder
    folder: Path
    tokenizer: Tokenizer
    pipeline: ContinuousBatchingPipeline
    context_tokens: int
    max_batch: int
    kv_blocks: int
    threads: int

    def rebuild(self) -> None:
        """A fresh pipeline from the same files; the old one, with all it was answering, is gone."""
        del self.pipeline
        self.pipeline = _pipeline(self.folder, self.tokenizer, self.kv_blocks, self.threads)


def open_model(spec: EngineSpec, timed: Timer) -> OpenModel:
    """The model of `spec`, compiled. Raises `ModelError`."""
    if spec.source.kind == "ir":
        with timed("map", "OpenVINO IR"):
            folder = Path(spec.source.path)
            facts, vocabulary, encoder = of_ir(folder, spec)
        return _compiled(spec, timed, facts, folder, lambda: (vocabulary, encoder))
    with timed("convert" if spec.source.kind == "safetensors" else "map", f"{spec.source.kind} as GGUF") as progress:
        gguf, _ = prepared(spec.source, Path(spec.cache_dir), spec.quantization, remarking(progress))
    with timed("map", "metadata"):
        info = describe(gguf)
        if why := why_not(info):
            raise ModelError(f"OpenVINO can't run {gguf.name}.", why, "Use --engine llamacpp.")
        facts = of_gguf(info, spec)
        import openvino_genai  # noqa: F401  (timed: it is most of a warm start's mapping)
    folder = _cache_folder(gguf, spec)
    if not is_whole(folder):
        with timed("convert", "GGUF to OpenVINO IR"):
            _convert(gguf, folder)
    return _compiled(spec, timed, facts, folder, lambda: (Vocabulary.from_gguf(info), Encoder.from_gguf(info)))


def is_whole(folder: Path) -> bool:
    """True if `folder` holds every file of its manifest, as it was written."""
    try:
        listed = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(listed) and listed == _fingerprints(folder)
    except (OSError, ValueError):
        return False


def _compiled(
    spec: EngineSpec, timed: Timer, facts: Facts, folder: Path, words: Callable[[], tuple[Vocabulary, Encoder]]
) -> OpenModel:
    """Sizes the KV cache and compiles; `words` are read while the library, which lets go of the interpreter, does."""
    batch = spec.max_batch or 32
    wanted = context_of(spec, facts.context_tokens)
    block_bytes = BLOCK_TOKENS * facts.layers * facts.kv_heads * (facts.key_dim + facts.value_dim + 24)
    each = -(-wanted // BLOCK_TOKENS) + 1
    blocks = max(2, min(batch * each, kv_budget_bytes(spec) // block_bytes))
    threads = spec.threads or cores()
    with timed("compile", f"for {threads} thread{'s' if threads > 1 else ''}"), ThreadPoolExecutor(1) as beside:
        read = beside.submit(words)
        tokenizer = _tokenizer(folder)
        pipeline = _pipeline(folder, tokenizer, blocks, threads)
        vocabulary, encoder = read.result()
    context = min(wanted, (blocks - 1) * BLOCK_TOKENS)
    cut_by_memory("context", wanted, context)
    return OpenModel(facts, vocabulary, encoder, folder, tokenizer, pipeline, context, batch, blocks, threads)


def _pipeline(folder: Path, tokenizer: Tokenizer, kv_blocks: int, threads: int) -> ContinuousBatchingPipeline:
    from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig

    scheduler = SchedulerConfig()
    scheduler.num_kv_blocks = kv_blocks
    scheduler.max_num_batched_tokens = BATCHED_TOKENS
    scheduler.enable_prefix_caching = True
    # Pinned threads of several workers would all sit on the first cores.
    properties = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": threads >= cores()}
    try:
        return ContinuousBatchingPipeline(folder, tokenizer, scheduler, "CPU", **properties)
    except LIBRARY_ERRORS as error:
        raise _cannot("compile", folder, error) from error


def _tokenizer(folder: Path) -> Tokenizer:
    from openvino_genai import Tokenizer

    try:
        return Tokenizer(folder)
    except LIBRARY_ERRORS as error:
        raise _cannot("read the tokenizer of", folder, error) from error


def _cache_folder(gguf: Path, spec: EngineSpec) -> Path:
    status = gguf.stat()
    key = f"{_CONVERTER} {version('openvino-genai')} {gguf.resolve()} {status.st_size} {status.st_mtime_ns}"
    return Path(spec.cache_dir) / "openvino" / f"{gguf.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _convert(gguf: Path, folder: Path) -> None:
    """Write the IR of `gguf` to `folder`, whole or not at all, unless another process did. Raises `ModelError`."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder.with_name(f"{folder.name}.lock")):
            if is_whole(folder):  # another worker was quicker
                return
            _sweep(folder.parent)
            with tempfile.TemporaryDirectory(prefix="making-", dir=folder.parent) as made:
                work = Path(made) / "ir"
                work.mkdir()
                _save_ir(gguf, work)
                (work / _MANIFEST).write_text(json.dumps(_fingerprints(work)), encoding="utf-8")
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(work, folder)
    except OSError as error:
        if not is_whole(folder):
            next = "Make room there, or set FREEHOLD_HOME to another disk."
            raise ModelError(f"Can't write {folder}.", f"{error.strerror}.", next) from error


def _sweep(parent: Path) -> None:
    """Remove what conversions that were killed left behind."""
    for left in parent.glob("making-*"):
        if time.time() - left.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True)


def _save_ir(gguf: Path, work: Path) -> None:
    """The library writes beside the file it reads, so it reads a link. Its tokenizer is left out (`Encoder` is ours,
    and right for more models); the vocabulary of its detokenizer is what JSON grammars are compiled for."""
    from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig, Tokenizer

    link = work / "model.gguf"
    link.symlink_to(gguf.resolve())
    try:
        tokenizer = Tokenizer(link, enable_save_ov_model=True)
        scheduler = SchedulerConfig()
        scheduler.num_kv_blocks = 1
        ContinuousBatchingPipeline(link, tokenizer, scheduler, "CPU", enable_save_ov_model=True)
    except LIBRARY_ERRORS as error:
        raise _cannot("convert", gguf, error) from error
    for unused in (link, *work.glob("openvino_tokenizer.*")):
        unused.unlink()
    slim(work)


def _fingerprints(folder: Path) -> Mapping[str, list[int]]:
    """Size and checksum of every file; of large ones, the checksum of their first and last MiB."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name == _MANIFEST or path.is_symlink():
            continue
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= _WHOLE_BYTES:
                check = zlib.crc32(file.read())
            else:
                check = zlib.crc32(file.read(1 << 20))
                file.seek(-(1 << 20), os.SEEK_END)
                check = zlib.crc32(file.read(), check)
        found[path.name] = [size, check]
    return found


def _cannot(what: str, path: Path, error: Exception) -> ModelError:
    return ModelError(f"OpenVINO can't {what} {path}.", f"It says: {said(error)}.", "Try --engine llamacpp.")
