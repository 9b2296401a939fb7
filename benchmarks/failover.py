"""How often does a greedy answer that another worker goes on with read as the undisturbed one would have?

On `sim` always. A real engine reads prompt and given tokens at once where it had made them one by one, and in another
batch: the last bits of its logits differ, and where two tokens are almost equally likely the other one may win. The
ceiling is the engine's agreement with itself: the same answers made once more, undisturbed, in another batch.
Each answer of the starter is cut at its middle; what is compared is the text, and where it first differs.

    python benchmarks/failover.py [--quick]

The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import freehold
from freehold.core import Chunk, Request, Sampling
from freehold.engine.base import Engine, EngineSpec
from freehold.engine.choose import build
from freehold.model.source import Source
from report import Claim, finish

STARTER = Path(freehold.__file__).parent / "starter"
ENGINES = ("sim", "openvino", "llamacpp")
TOKENS = 60
ASKED = ("I lost my card", "What is the weather in Rome?", "Find me a restaurant", "My payment failed", "Hello", "Why?")
Given = dict[str, list[Chunk]]


def load(name: str, cache: str) -> Engine:
    kind = "sim" if name == "sim" else "safetensors"
    source = Source(kind=kind, path="instant" if name == "sim" else str(STARTER), label=name, name="m")  # type: ignore[arg-type]
    spec = EngineSpec(engine=name, source=source, name="m", cache_dir=cache, context_tokens=512, max_batch=8)  # type: ignore[arg-type]
    engine = build(spec)
    engine.load(lambda *_: nullcontext())
    return engine


def asked(count: int) -> list[Request]:
    sampling = Sampling(temperature=0.0, max_tokens=TOKENS, ignore_eos=True, seed=1)
    return [
        Request(
            id=f"r{i}", model="m", kind="chat", sampling=sampling,
            messages=({"role": "user", "content": f"{ASKED[i % len(ASKED)]} (case {i})"},),
        )
        for i in range(count)
    ]  # fmt: skip


def answer(engine: Engine, requests: list[Request], given: Given | None = None) -> Given:
    """All answers as chunks, `given` ones included."""
    made: Given = {request.id: list((given or {}).get(request.id, ())) for request in requests}
    for request in requests:
        engine.add(request, 0, made[request.id])
    left = len(requests)
    while left:
        for chunk in engine.step().chunks:
            made[chunk.id].append(chunk)
            left -= chunk.finish is not None
    return made


def agreement(name: str, first: Given, second: Given) -> float:
    """Share of answers that read alike; prints where the others part."""
    pairs = [("".join(c.text for c in first[id]), "".join(c.text for c in second[id])) for id in first]
    parts = [
        next((i for i, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), len(min(x, y)))
        for x, y in pairs
        if x != y
    ]
    same = sum(x == y for x, y in pairs) / len(pairs)
    where = f"; the others part after {min(parts)} to {max(parts)} characters" if parts else ""
    print(f"{name}: {same:.0%} of {len(pairs)} read alike{where}")
    return same


def _parting(x: str, y: str) -> int:
    """Where two texts first differ."""
    return next((i for i, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), min(len(x), len(y)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="12 answers instead of 96")
    count = 12 if parser.parse_args().quick else 96
    claims = []
    with TemporaryDirectory() as cache:
        for name in ENGINES:
            engine = load(name, cache)
            requests = asked(count)
            whole = answer(engine, requests)
            again = answer(engine, requests[::-1])
            cut = {id: chunks[: len(chunks) // 2] for id, chunks in whole.items()}
            resumed = answer(engine, requests, cut)
            engine.close()
            ceiling = agreement(f"{name}, made once more (ceiling)", whole, again)
            same = agreement(f"{name}, gone on with after its middle", whole, resumed)
            print(f"{name}: {same / ceiling:.2f} of its ceiling" if ceiling else f"{name}: no ceiling")
            lengths = {sum(c.tokens for c in chunks) for chunks in resumed.values()}
            claims.append(Claim(f"{name}: answers of exactly {TOKENS} tokens", float(lengths == {TOKENS}), ">=", 1.0))
            wanted = 1.0 if name == "sim" else 0.7
            claims.append(
                Claim(f"{name}: answers that read alike, of its ceiling", same / (ceiling or 1.0), ">=", wanted)
            )
    return finish("failover", claims)


if __name__ == "__main__":
    sys.exit(main())
