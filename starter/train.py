"""Trains the starter: `python -m starter.train --banking DIR --dialogues FILE --out DIR`.

Two phases. First the dialogues, every word of them, which teaches English and how a service agent
replies. Then the labelled messages, several passes with damaged copies, with a share of dialogues and
tool calls kept in so that replying is not forgotten. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import random
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import Tokenizer

from starter import data
from starter.chat import Row, encode
from starter.corpus import Corpus, Mixture, fit_tokenizer, label_steps, read_corpus, talk_steps
from starter.evaluate import accuracy
from starter.export import write
from starter.learn import Progress, Settings, Step, learn, mean_loss
from starter.model import TINY, Shape, Starter

TALK = Settings(matrix_rate=0.02, rate=3e-3)
LABEL = Settings(matrix_rate=0.01, rate=1.5e-3, dropout=0.1, smoothing=0.05, decay=0.05)
# The dialogues may take this share of the time limit.
TALK_SHARE = 0.45


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """What a phase took: tokens trained on, wall seconds, CPU seconds."""

    tokens: int
    wall_s: float
    cpu_s: float


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the starter model.")
    parser.add_argument("--banking", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--dialogues", type=Path, required=True, help="dialogues.txt or .txt.gz")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint directory to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit of both phases together")
    parser.add_argument("--talk-passes", type=float, default=0.5, help="passes over the dialogues")
    parser.add_argument("--passes", type=int, default=8, help="passes over the labelled messages")
    parser.add_argument("--holdout", type=float, default=0.0, help="share of train.csv to score on, not test.csv")
    parser.add_argument("--talked", type=Path, help="weights after the dialogues: read if there, else written")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in a minute at most")
    args = parser.parse_args()
    if args.smoke:
        args.minutes = min(args.minutes, 1.0)
    return args


def talk(model: Starter, rows: Sequence[Row], args: argparse.Namespace) -> Spent:
    """Run phase 1, or read its result from a file."""
    if args.talked and args.talked.exists():
        saved = torch.load(args.talked, weights_only=True)
        model.load_state_dict(saved["weights"])
        return Spent(**saved["spent"])
    steps = talk_steps(rows, args.talk_passes, 6144, random.Random(args.seed))
    spent = timed(model, steps, TALK, Progress("dialogues", TALK_SHARE * 60 * args.minutes))
    if args.talked:
        torch.save({"weights": model.state_dict(), "spent": dataclasses.asdict(spent)}, args.talked)
    return spent


def label(model: Starter, tokenizer: Tokenizer, corpus: Corpus, args: argparse.Namespace, left_s: float) -> Spent:
    """Run phase 2, seeded afresh so that reading phase 1 from a file changes nothing."""
    torch.manual_seed(args.seed + 1)
    rng = random.Random(args.seed + 1)
    steps = label_steps(tokenizer, corpus, args.passes, Mixture(), rng)
    return timed(model, steps, LABEL, Progress("labels", left_s))


def timed(model: Starter, steps: Iterable[Step], settings: Settings, progress: Progress) -> Spent:
    started, cpu_started = time.monotonic(), time.process_time()
    learn(model, steps, settings, progress)
    return Spent(progress.tokens, time.monotonic() - started, time.process_time() - cpu_started)


def scores(model: Starter, tokenizer: Tokenizer, corpus: Corpus, args: argparse.Namespace) -> dict[str, Any]:
    """Accuracy on the messages held out or, when none are, on the test file."""
    held = corpus.held_messages
    messages = held or data.read_messages(args.banking / "test.csv")
    return {
        "scored_on": "holdout" if held else "test",
        **accuracy(model, tokenizer, messages),
        "prefix": accuracy(model, tokenizer, messages, "prefix"),
    }


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    corpus = read_corpus(args.banking, args.dialogues, args.holdout, args.seed, 300 if args.smoke else None)
    rng = random.Random(args.seed)
    tokenizer = fit_tokenizer(corpus, 512 if args.smoke else 4096, rng)
    shape = dataclasses.replace(TINY if args.smoke else Shape(), vocab=tokenizer.get_vocab_size())
    model = Starter(shape).to(device)
    rows = encode(tokenizer, [data.with_system(dialogue, rng) for dialogue in corpus.dialogues])
    held_rows = list(data.batches(encode(tokenizer, corpus.held_dialogues), 4096, rng))

    talked = talk(model, rows, args)
    talk_loss = mean_loss(model, held_rows)
    print(f"dialogues: held-out loss {talk_loss:.3f}", file=sys.stderr, flush=True)
    labelled = label(model, tokenizer, corpus, args, 60 * args.minutes - talked.wall_s)
    write(model, tokenizer, args.out)
    result = {
        **scores(model, tokenizer, corpus, args),
        "val_loss": round(mean_loss(model, held_rows), 4),
        "val_loss_before_labels": round(talk_loss, 4),
        "weights": sum(weight.numel() for weight in model.parameters()),
        "tokens": talked.tokens + labelled.tokens,
        "minutes": round((talked.wall_s + labelled.wall_s) / 60, 2),
        "cpu_minutes": round((talked.cpu_s + labelled.cpu_s) / 60, 2),
        "phases": {"dialogues": dataclasses.asdict(talked), "labels": dataclasses.asdict(labelled)},
        "seed": args.seed,
        "threads": args.threads,
        "device": str(device),
        "versions": {
            "torch": torch.__version__,
            "tokenizers": tokenizers.__version__,
            "python": platform.python_version(),
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
