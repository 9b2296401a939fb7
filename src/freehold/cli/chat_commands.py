"""The slash commands of `freehold chat`: what is said to the program instead of the model.

Each command changes the `Talk` and returns the words to show. Pure but for /save, and for /model, which
is given the names it may pick from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from freehold.core import Json
from freehold.errors import UsageError

HELP = """\
/new            start again with an empty conversation
/retry          answer the last message again
/system [TEXT]  show, set or (with -) remove the system message
/model [NAME]   show the models, or pick one
/save FILE      write the conversation to a Markdown file
/exit           leave (so does Ctrl-D)
A line that ends in \\ goes on in the next. Ctrl-C stops an answer; a second one leaves."""


@dataclass(slots=True)
class Talk:
    """The conversation and how it is asked."""

    model: str
    system: str = ""
    sampling: Json = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)

    def body(self) -> Json:
        """What to POST for the next answer."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return {"model": self.model, "messages": [*system, *self.messages], **self.sampling}

    def said(self, role: str, text: str) -> None:
        """Adds a message. A question that never got an answer gives way to the next one."""
        if role == "user" and self.messages and self.messages[-1]["role"] == "user":
            self.messages.pop()
        self.messages.append({"role": role, "content": text})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command leads to: words to show, and what the loop does next."""

    words: str = ""
    leave: bool = False
    answer: bool = False


def obey(line: str, talk: Talk, models: Callable[[], list[str]]) -> Outcome:
    """Carries out the slash command in `line`. Raises `UsageError` for one that doesn't exist or can't be done."""
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    match name:
        case "/help" | "/?":
            return Outcome(HELP)
        case "/exit" | "/quit":
            return Outcome(leave=True)
        case "/new":
            talk.messages.clear()
            return Outcome("A new conversation.")
        case "/system":
            return _system(talk, rest)
        case "/model":
            return _model(talk, rest, models())
        case "/retry":
            return _retry(talk)
        case "/save":
            return _save(talk, rest)
    raise UsageError(f"There is no command {name}.", next="/help lists the commands.")


def _system(talk: Talk, rest: str) -> Outcome:
    if rest:
        talk.system = "" if rest == "-" else rest
    return Outcome(f"System message: {talk.system}" if talk.system else "No system message.")


def _model(talk: Talk, rest: str, models: list[str]) -> Outcome:
    if not rest:
        return Outcome(
            "\n".join(f"{'*' if name == talk.model else ' '} {name}" for name in models) or "No model is ready."
        )
    if rest not in models:
        raise UsageError(f"This server has no model {rest}.", next=f"It has: {', '.join(models) or 'none'}.")
    talk.model = rest
    return Outcome(f"{rest} answers from now on.")


def _retry(talk: Talk) -> Outcome:
    while talk.messages and talk.messages[-1]["role"] == "assistant":
        talk.messages.pop()
    if not talk.messages:
        raise UsageError("There is nothing to answer again.", next="Write a message first.")
    return Outcome(answer=True)


def _save(talk: Talk, rest: str) -> Outcome:
    if not rest:
        raise UsageError("/save needs a file name.", next="For example: /save talk.md")
    path = Path(rest).expanduser()
    system = [f"**system**\n\n{talk.system}"] if talk.system else []
    parts = [
        f"# Conversation with {talk.model}",
        *system,
        *(f"**{m['role']}**\n\n{m['content']}" for m in talk.messages),
    ]
    try:
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Can't write {path}.", str(error.strerror or error)) from error
    return Outcome(f"Saved to {path}.")
