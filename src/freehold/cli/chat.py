"""`freehold chat`: talk to a running server in the terminal, or ask it one thing from a script.

A terminal gets a conversation with slash commands (`chat_commands.py`); `--message` or piped input gets one
answer on standard output. The HTTP is in `http.py`, the stream in `chat_stream.py`.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.core import Json
from freehold.errors import FreeholdError, Unavailable, UsageError

if TYPE_CHECKING:
    import httpx
    from rich.console import Console

    from freehold.cli.chat_commands import Talk
    from freehold.cli.chat_stream import Heard

STARTER_NOTE = (
    "The starter is for trying the system, not for talking to. "
    "It is best at: /system Name the intent of the customer's message."
)
STARTER_TEMPERATURE = 0.3
"""So tiny a model does better when it is less bold; the chat page does the same."""


@dataclass(frozen=True, slots=True)
class Options:
    """How `run` is to ask. None: the server's default."""

    model: str | None = None
    system: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    message: str | None = None
    as_json: bool = False
    api_key: str | None = None


def chat(
    url: Annotated[str, typer.Argument(help="Address of the server.", metavar="URL")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model to talk to; default: the first.")] = None,
    system: Annotated[str, typer.Option("--system", help="System message.")] = "",
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", min=0.0, max=2.0, help="0 is greedy; default: the server's, 0.3 for the starter."
        ),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed gives the same answer.")] = None,
    message: Annotated[str | None, typer.Option("--message", help="Ask this one thing and leave.")] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", envvar="FREEHOLD_API_KEY", help="API key.", show_default=False)
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Talk to a running server; /help lists what else can be said."""
    run(url, Options(model, system, temperature, max_tokens, seed, message, as_json, api_key))


def run(url: str, options: Options) -> None:
    """One answer for `--message` or piped input, else a conversation. Raises what goes wrong as `FreeholdError`."""
    from freehold.cli.chat_commands import Talk
    from freehold.cli.http import client

    text = options.message
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read()
    if text is not None and not text.strip():
        raise UsageError("There is no message.", next="Give one with --message, or on standard input.")
    if text is None and options.as_json:
        raise UsageError("--json answers one message.", next="Give it with --message, or on standard input.")
    names = _models(url, options.api_key)
    talk = Talk(options.model or names[0], options.system, _sampling(options))
    if talk.model == "starter":
        talk.sampling.setdefault("temperature", STARTER_TEMPERATURE)
    with client(url, options.api_key) as http:
        if text is not None:
            _ask_once(http, talk, text.strip(), options.as_json)
        else:
            _converse(http, talk, url, options.api_key)


def _sampling(options: Options) -> Json:
    given = {"temperature": options.temperature, "max_tokens": options.max_tokens, "seed": options.seed}
    return {name: value for name, value in given.items() if value is not None}


def _models(url: str, api_key: str | None) -> list[str]:
    from freehold.cli.http import get_json

    names = [str(model["id"]) for model in get_json(url, "/v1/models", api_key).get("data", [])]
    if not names:
        raise Unavailable("No model is ready yet.", next="`freehold workers` shows how far it is; try again soon.")
    return names


def _ask_once(http: httpx.Client, talk: Talk, text: str, as_json: bool) -> None:
    from freehold.cli.chat_stream import Heard, figures, stream

    talk.said("user", text)
    heard = Heard()
    try:
        for piece in stream(http, talk.body(), heard, _say_reconnecting):
            if not as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
    finally:
        if heard.text and not as_json:
            print(flush=True)
    if as_json:
        print_json({"model": talk.model, **heard.plain()})
    elif sys.stderr.isatty():
        print(figures(heard), file=sys.stderr)


def _say_reconnecting() -> None:
    if sys.stderr.isatty():
        print(" (reconnecting) ", end="", file=sys.stderr, flush=True)


def _converse(http: httpx.Client, talk: Talk, url: str, api_key: str | None) -> None:
    """The conversation: read a line, obey or ask, show; until Ctrl-D, /exit, or Ctrl-C twice."""
    from rich.console import Console

    console = Console(highlight=False)
    _greet(console, talk, url)
    stopped = False
    while (line := _next_line(console, stopped)) is not None:
        stopped = False
        if line.startswith("/"):
            wish = _obey(console, line, talk, url, api_key)
            if wish == "leave":
                return
            if wish != "answer":
                continue
        elif line:
            talk.said("user", line)
        else:
            continue
        stopped = _answer(console, http, talk)


def _greet(console: Console, talk: Talk, url: str) -> None:
    from freehold.cli.http import base_url

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  line editing and history for input()
    console.print(f"[bold]{talk.model}[/] at {base_url(url)}   [dim]/help lists commands, Ctrl-D leaves[/]")
    if talk.model == "starter":
        console.print(STARTER_NOTE, style="dim", markup=False)


def _next_line(console: Console, stopped: bool) -> str | None:
    """What the person says next; None for Ctrl-D. `stopped`: the last thing that happened was a Ctrl-C."""
    while True:
        try:
            line = input("\n> ")
            while line.endswith("\\"):
                line = line[:-1] + "\n" + input(". ")
            return line.strip()
        except EOFError:
            console.print()
            return None
        except KeyboardInterrupt:
            console.print()
            if stopped:
                raise
            stopped = True
            console.print("Ctrl-C again leaves.", style="dim")


def _obey(console: Console, line: str, talk: Talk, url: str, api_key: str | None) -> str:
    """Carries out a slash command; `leave`, `answer` or nothing to do next."""
    from freehold.cli.chat_commands import obey

    try:
        outcome = obey(line, talk, lambda: _models(url, api_key))
    except FreeholdError as error:
        _show(console, error)
        return ""
    if outcome.words:
        console.print(outcome.words, style="dim", markup=False)
    return "leave" if outcome.leave else "answer" if outcome.answer else ""


def _answer(console: Console, http: httpx.Client, talk: Talk) -> bool:
    """Streams one answer. True when Ctrl-C stopped it; errors are shown, and the conversation goes on."""
    from freehold.cli.chat_stream import Heard, figures

    heard = Heard()
    try:
        _print_pieces(console, http, talk, heard)
    except KeyboardInterrupt:
        console.print("\n[dim]Stopped. Ctrl-C again leaves, /retry asks again.[/]")
        if heard.text:
            talk.said("assistant", heard.text)
        return True
    except FreeholdError as error:
        if heard.text:
            console.print()
        _show(console, error)
        return False
    console.print(f"\n{figures(heard)}", style="dim", markup=False)
    if heard.finish == "length":
        console.print("Cut at the length limit.", style="dim")
    talk.said("assistant", heard.text)
    return False


def _print_pieces(console: Console, http: httpx.Client, talk: Talk, heard: Heard) -> None:
    from freehold.cli.chat_stream import stream

    def say_reconnecting() -> None:
        console.print("[dim] (reconnecting) [/]", end="")

    with contextlib.closing(stream(http, talk.body(), heard, say_reconnecting)) as pieces:
        with console.status("[dim]waiting[/]", spinner="dots"):
            first = next(pieces, "")
        console.out(first, end="", highlight=False)
        for piece in pieces:
            console.out(piece, end="", highlight=False)


def _show(console: Console, error: FreeholdError) -> None:
    console.print(error.what, style="red", markup=False)
    for part in filter(None, (error.why, error.next)):
        console.print(f"  {part}", markup=False)
