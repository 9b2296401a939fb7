"""Scores a checkpoint directory: `python -m starter.evaluate MODEL_DIR --banking DIR`.

Greedy decoding writes the label exactly if and only if every token of the label, and the <|end|> after
it, is the most likely one given those before. So one forward pass a message decides the exact match,
without a decoding loop. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from starter.chat import encode
from starter.data import Form, Labelled, answer, question, read_messages
from starter.export import read
from starter.learn import collate
from starter.model import Starter


@torch.no_grad()
def exact_matches(
    model: Starter, tokenizer: Tokenizer, messages: Sequence[Labelled], form: Form = "system"
) -> list[bool]:
    """For each message, whether greedy decoding answers with exactly its label."""
    model.eval()
    chats = [[*question(m.text, form), answer(m.label, form)] for m in messages]
    rows = encode(tokenizer, chats)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    right = [False] * len(rows)
    for start in range(0, len(order), 128):
        chosen = order[start : start + 128]
        ids, weights = collate([rows[i] for i in chosen], model.cos.device)
        best = model(ids[:, :-1]).argmax(-1)
        matched = ((best == ids[:, 1:]) | (weights[:, 1:] == 0)).all(1).tolist()
        for i, match in zip(chosen, matched, strict=True):
            right[i] = match
    return right


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927), which stays inside 0..1."""
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy(
    model: Starter, tokenizer: Tokenizer, messages: Sequence[Labelled], form: Form = "system"
) -> dict[str, float]:
    right = sum(exact_matches(model, tokenizer, messages, form))
    low, high = wilson(right, len(messages))
    return {
        "accuracy": round(right / len(messages), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "right": right,
        "n": len(messages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Score a starter checkpoint on banking77's test messages.")
    parser.add_argument("model", type=Path, help="checkpoint directory")
    parser.add_argument("--banking", type=Path, required=True, help="folder with test.csv")
    args = parser.parse_args()
    model, tokenizer = read(args.model)
    messages = read_messages(args.banking / "test.csv")
    forms: tuple[Form, ...] = ("system", "prefix", "tool")
    result = {form: accuracy(model, tokenizer, messages, form) for form in forms}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
