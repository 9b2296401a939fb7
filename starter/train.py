"""Trains the starter: `python -m starter.train --banking DIR --dialogues FILE --out DIR`.

First the dialogues, every word of them, which teaches English and how a service agent replies. Then, in two
rounds, the labelled messages, several passes with damaged copies, with a share of dialogues and tool calls
kept in so that replying is not forgotten. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import Tokenizer

from starter import data
from starter.chat import encode
from starter.corpus import Corpus, Mixture, fit_tokenizer, label_steps, read_corpus, talk_steps
from starter.evaluate import accuracy
from starter.export import write
from starter.learn import Progress, Settings, Step, learn, mean_loss
from starter.model import TINY, Shape, Starter

TALK = Settings(matrix_rate=0.02, rate=3e-3)
LABEL = Settings(matrix_rate=0.01, rate=1.5e-3, dropout=0.1, smoothing=0.05, decay=0.05)
AGAIN = dataclasses.replace(LABEL, matrix_rate=0.007, rate=1e-3)
ROUNDS = ((LABEL, Mixture()), (AGAIN, Mixture(tool_calls=5, invented=True)))
"""A second, gentler round with its own schedule: after one, the messages it was trained on are not learnt yet."""
# The dialogues may take this share of the time limit.
TALK_SHARE = 0.35


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """What phases took: tokens trained on, wall seconds, CPU seconds."""

    tokens: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.tokens + other.tokens, self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the starter model.")
    parser.add_argument("--banking", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--dialogues", type=Path, required=True, help="dialogues.txt or .txt.gz")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint directory to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit of all phases together")
    parser.add_argument("--talk-passes", type=float, default=0.5, help="passes over the dialogues")
    parser.add_argument("--passes", type=int, default=7, help="passes over the labelled messages in each round")
    parser.add_argument("--holdout", type=float, default=0.0, help="share of train.csv to score on, not test.csv")
    parser.add_argument("--keep", type=Path, help="weights after each phase: written, and gone on from if there")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="a tiny model, in a minute at most")
    args = parser.parse_args()
    if args.smoke:
        args.minutes = min(args.minutes, 1.0)
    return args


def train(model: Starter, tokenizer: Tokenizer, corpus: Corpus, args: argparse.Namespace) -> Spent:
    """All phases, or those that `--keep` says are still to come. Each is seeded afresh, so that going on from a
    file changes nothing."""
    phase, spent = recall(model, args.keep)
    for number in range(phase, 1 + len(ROUNDS)):
        left_s = 60 * args.minutes - spent.wall_s
        share = TALK_SHARE if number == 0 else 1 / (1 + len(ROUNDS) - number)
        rng = random.Random(args.seed + number)
        if number == 0:
            rows = encode(tokenizer, [data.with_system(dialogue, rng) for dialogue in corpus.dialogues])
            steps, settings = talk_steps(rows, args.talk_passes, 6144, rng), TALK
        else:
            torch.manual_seed(args.seed + number)
            settings, mixture = ROUNDS[number - 1]
            steps = label_steps(tokenizer, corpus, args.passes, mixture, rng)
        spent += timed(model, steps, settings, Progress(f"phase {number + 1}", left_s * share))
        if args.keep:
            kept = {"phase": number + 1, "weights": model.state_dict(), "spent": dataclasses.asdict(spent)}
            torch.save(kept, args.keep)
    return spent


def recall(model: Starter, kept: Path | None) -> tuple[int, Spent]:
    """How many phases are behind a model kept on disk, and what they took; (0, nothing) without one."""
    if kept is None or not kept.exists():
        return 0, Spent()
    saved = torch.load(kept, weights_only=True)
    model.load_state_dict(saved["weights"])
    return saved["phase"], Spent(**saved["spent"])


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
    held_rows = list(data.batches(encode(tokenizer, corpus.held_dialogues), 4096, rng))

    spent = train(model, tokenizer, corpus, args)
    write(model, tokenizer, args.out)
    result = {
        **scores(model, tokenizer, corpus, args),
        "val_loss": round(mean_loss(model, held_rows), 4),
        "weights": sum(weight.numel() for weight in model.parameters()),
        "tokens": spent.tokens,
        "minutes": round(spent.wall_s / 60, 2),
        "cpu_minutes": round(spent.cpu_s / 60, 2),
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
