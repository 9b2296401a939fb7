"""Reads the two data files and turns them into chats: labelled messages, dialogues, and tool calls.

Files are given as paths and never copied: banking77's `train.csv`/`test.csv` (columns text, category)
and the dstc8 dialogues (one `user:`/`agent:` line a turn, a blank line between dialogues, gzip or not).
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from starter.augment import damage
from starter.chat import CLASSIFY, PREFIX, SERVE, Row, Turn, system_text, tool_call

_ROLES = {"user": "user", "agent": "assistant"}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One customer message and the intent it carries."""

    text: str
    label: str


def read_messages(path: Path) -> list[Labelled]:
    with path.open(newline="", encoding="utf-8") as file:
        return [Labelled(row["text"], row["category"]) for row in csv.DictReader(file)]


def read_dialogues(path: Path, limit: int | None = None) -> list[list[Turn]]:
    """Dialogues as turns; lines starting with `#` name services and are skipped."""
    dialogues: list[list[Turn]] = [[]]
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            role, _, text = line.strip().partition(": ")
            if role in _ROLES:
                dialogues[-1].append(Turn(_ROLES[role], text))
            elif dialogues[-1] and not line.strip():
                if len(dialogues) == limit:
                    break
                dialogues.append([])
    return [dialogue for dialogue in dialogues if len(dialogue) > 1]


def holdout(messages: Sequence[Labelled], share: float, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """Split off `share` of the messages to choose settings on: (to train on, to choose on)."""
    order = list(messages)
    random.Random(seed).shuffle(order)
    cut = round(len(order) * share)
    return order[cut:], order[:cut]


Form = Literal["system", "prefix", "tool"]


def question(message: str, form: Form = "system") -> list[Turn]:
    """The ways to ask for an intent: by system message (canonical), by prefix, or by offering a tool."""
    if form == "prefix":
        return [Turn("user", PREFIX + message, 0.0)]
    offered = [tool("route_message", "Route the customer's message.")] if form == "tool" else []
    system = system_text("" if offered else CLASSIFY, offered)
    return [Turn("system", system, 0.0), Turn("user", message, 0.0)]


def answer(label: str, form: Form = "system") -> Turn:
    """What the assistant should write to `question`."""
    return Turn("assistant", tool_call("route_message", {"intent": label}) if form == "tool" else label)


def label_chats(
    messages: Sequence[Labelled], rng: random.Random, strength: float, user_weight: float
) -> list[list[Turn]]:
    """One pass over the messages: mostly single questions, some chats of two or three.

    Half are asked by prefix, which is shorter and so cheaper to train on; what is learnt serves both.
    The customer's words carry a small loss of their own, which teaches the domain's language.
    """
    order = list(messages)
    rng.shuffle(order)
    chats: list[list[Turn]] = []
    while order:
        prefixed = rng.random() < 0.5
        chat = [] if prefixed else [Turn("system", CLASSIFY, 0.0)]
        for _ in range(1 if rng.random() < 0.93 else rng.randint(2, 3)):
            if order:
                item = order.pop()
                text = damage(item.text, rng, strength)
                chat.append(Turn("user", PREFIX + text if prefixed else text, user_weight))
                chat.append(Turn("assistant", item.label))
        chats.append(chat)
    return chats


def with_system(dialogue: Sequence[Turn], rng: random.Random) -> list[Turn]:
    """A dialogue under the generic system message half of the time, and bare otherwise."""
    return [Turn("system", SERVE, 0.0), *dialogue] if rng.random() < 0.5 else list(dialogue)


def opening(dialogue: Sequence[Turn], rng: random.Random) -> list[Turn]:
    """The first one to three exchanges of a dialogue: enough to keep the habit of replying."""
    return with_system(dialogue[: 2 * rng.randint(1, 3)], rng)


_VERBS = (
    "route", "set", "classify", "tag", "assign", "mark", "label", "file", "record", "pick", "choose", "name", "sort",
    "note", "save", "send", "log", "find", "detect", "report",
)  # fmt: skip
_NOUNS = (
    "message", "intent", "topic", "ticket", "request", "queue", "case", "category", "team", "reason", "issue", "call",
    "question", "problem", "subject", "label", "kind", "class", "desk", "department",
)  # fmt: skip
_NAMES = ("route_message", "set_intent", "classify_message", "route", "tag_message")
_DESCRIPTIONS = (
    "Route the customer's message.",
    "Set the intent of the message.",
    "Send the message to the right team.",
    "Name the intent of the message.",
)
_SYSTEMS = ("", "", SERVE, CLASSIFY, "Use the tool to route the message.")
_RESULTS = ('{"ok": true}', "ok", "done", '{"status": "routed"}', '{"queue": "QUEUE"}')
_REPLIES = (
    "Thank you. I have passed your message to the right team.",
    "Done. Your message is with the right team now.",
    "Your message has been routed. Is there anything else?",
)


def tool(name: str, description: str | None) -> dict[str, Any]:
    """A function with the one string parameter `intent`, in the shape of OpenAI's `tools`."""
    parameters = {
        "type": "object",
        "properties": {"intent": {"type": "string"}},
        "required": ["intent"],
    }
    described = {"description": description} if description else {}
    return {"type": "function", "function": {"name": name, **described, "parameters": parameters}}


def tool_chat(item: Labelled, rng: random.Random, strength: float, *, invented: bool = False) -> list[Turn]:
    """A made-up chat: the tool is offered, the assistant calls it; half the time a result follows.

    With `invented`, the tool's name is put together anew, so that it has to be read and can't be guessed.
    """
    name = f"{rng.choice(_VERBS)}_{rng.choice(_NOUNS)}" if invented else rng.choice(_NAMES)
    offered = [tool(name, rng.choice(_DESCRIPTIONS) if rng.random() < 0.6 else None)]
    chat = [
        Turn("system", system_text(rng.choice(_SYSTEMS), offered), 0.0),
        Turn("user", damage(item.text, rng, strength), 0.0),
        Turn("assistant", tool_call(name, {"intent": item.label})),
    ]
    if rng.random() < 0.5:
        result = rng.choice(_RESULTS).replace("QUEUE", item.label)
        chat += [Turn("tool", result, 0.0), Turn("assistant", rng.choice(_REPLIES))]
    return chat


def pack(rows: Sequence[Row], separator: int, length: int) -> list[Row]:
    """Join rows into long ones, so that late positions are trained as well."""
    packed = [Row()]
    for row in rows:
        last = packed[-1]
        if last.ids and len(last.ids) + len(row.ids) + 1 > length:
            packed.append(last := Row())
        if last.ids:
            last.ids.append(separator)
            last.weights.append(0.0)
        last.ids.extend(row.ids[: length - len(last.ids)])
        last.weights.extend(row.weights[: length - len(last.weights)])
    return packed


def batches(rows: Sequence[Row], tokens: int, rng: random.Random) -> Iterator[list[Row]]:
    """Shuffled batches of at most `tokens` padded tokens, each of rows of similar length."""
    order = list(rows)
    rng.shuffle(order)
    for start in range(0, len(order), 2048):
        chunk = sorted(order[start : start + 2048], key=lambda row: len(row.ids))
        cuts: list[list[Row]] = [[]]
        for row in chunk:
            if cuts[-1] and len(row.ids) * (len(cuts[-1]) + 1) > tokens:
                cuts.append([])
            cuts[-1].append(row)
        rng.shuffle(cuts)
        yield from cuts
