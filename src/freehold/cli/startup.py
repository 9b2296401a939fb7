"""What a person sees while a server starts, runs and stops; with `--json`, what a program reads.

Everything for people goes to standard error when `--json` is given, so that standard output is JSON alone.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from freehold.cli.bar import Bar
from freehold.cli.output import gib, print_json
from freehold.core import Failure, ModelCard

if TYPE_CHECKING:
    from freehold.config import Config
    from freehold.worker.events import Event

PHASES = {
    "download": "downloading",
    "convert": "converting",
    "map": "reading",
    "compile": "compiling",
    "warmup": "warming up",
}


class StartUp:
    """Follows the supervisor's events. `failure` is the error that ended it, if one did."""

    def __init__(self, config: Config, *, as_json: bool) -> None:
        from rich.console import Console

        self._config = config
        self._as_json = as_json
        self._console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False, soft_wrap=True)
        self._bar = Bar(self._console) if self._console.is_terminal else None
        self._url = ""
        self._served = False
        self._cards: dict[str, tuple[ModelCard, int, float]] = {}
        self.failure: Failure | None = None
        self.names: list[str] = []
        """Of all models, also of those that aren't loaded yet."""

    def __enter__(self) -> StartUp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quiet()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def progress(self, what: str, done: int, total: int) -> None:
        """A `Report` of the model's download: a line for each file, and on a terminal a bar before it."""
        if not total:
            self.say(f"         {what}")
        elif done < total:
            self._show("", f"downloading {what}", done, total)
        else:
            self._quiet()
            self.say(f"         {what}, {gib(total)}")

    def event(self, event: Event) -> None:
        """Show one event of the supervisor."""
        match event.kind:
            case "listening":
                self._url = event.url
            case "phase" | "progress":
                self._phase(event)
            case "ready" if event.card is not None:
                self._ready(event, event.card)
            case "serving":
                self._serving(event.seconds or 0.0)
            case "ended":
                self._quiet()
                why = f": {event.failure.what} {event.failure.why}".rstrip() if event.failure else "."
                self.say(f"{event.process} {event.reason}{why} It starts again in {event.seconds or 0:.1f} s.")
            case "change":
                self._quiet()
                self.say(event.detail)
            case "left" if self._config.server.mode != "stateless":
                self.say(f"{event.process} has left.")
            case "gave_up":
                self._quiet()
                self.failure = event.failure
            case "draining":
                self._quiet()
                self.say(
                    f"stopping: running answers get {self._config.server.drain_s:.0f} s to finish; Ctrl-C again kills"
                )
            case "stopped":
                self._quiet()
                self.say("stopped")
                if self._as_json:
                    print_json({"state": "stopped", "url": self._url, "exit_code": 0})
            case _:
                pass

    def _phase(self, event: Event) -> None:
        if event.kind == "progress":
            doing = f"{event.process}: {event.detail}"
        else:
            doing = f"{event.process}: {PHASES.get(event.phase, event.phase)} {event.detail}"
        if event.seconds is None:
            self._show(event.process, doing, event.done_bytes, event.total_bytes)

    def _ready(self, event: Event, card: ModelCard) -> None:
        self._show(event.process, "")
        self._cards[event.process] = (card, event.memory_bytes, event.seconds or 0.0)
        if self._served and len(self.names) > 1:
            self.say(f"{card.name} is loaded after {event.seconds or 0.0:.1f} s ({event.process})")
        elif self._served and self._config.server.mode != "stateless":
            self.say(f"{event.process} is ready again after {event.seconds or 0.0:.1f} s")

    def _show(self, process: str, doing: str, done: int = 0, total: int = 0) -> None:
        if self._bar is not None:
            self._bar.show(process, doing, done, total)

    def _serving(self, seconds: float) -> None:
        self._quiet()
        self._served = True
        for name, (card, memory_bytes, took_s) in self._cards.items():
            phases = ", ".join(f"{PHASES.get(phase, phase)} {taken_s:.2f} s" for phase, taken_s in _by_phase(card))
            told = f" ({phases})" if phases else ""
            self.say(f"{name:<8} ready after {took_s:.1f} s{told}, {gib(memory_bytes)}")
        self._models()
        if self._url:
            self._addresses()
        self.say(f"\nserving after {seconds:.1f} s. Ctrl-C stops.")
        if self._as_json:
            cards = {name: card for name, (card, _, _) in self._cards.items()}
            print_json({"state": "serving", "url": self._url, "seconds": round(seconds, 3), "workers": cards})

    def _models(self) -> None:
        loaded = self._loaded()
        for card in loaded.values():
            size = f"{card.parameters / 1e6:.1f}M parameters, {card.quantization or 'weights'}, "
            self.say(
                f"serving  {card.name}: {size if card.parameters else ''}context {card.context_tokens or 'unknown'}, "
                f"{card.max_batch} answers at once a worker"
            )
        if away := [name for name in self.names if name and name not in loaded]:
            self.say(f"         loaded when asked for: {', '.join(away)}")

    def _loaded(self) -> dict[str, ModelCard]:
        """Cards by name, in the order in which the models were named."""
        found = {card.name: card for card, _, _ in self._cards.values()}
        return {name: found[name] for name in sorted(found, key=lambda name: (*self.names, name).index(name))}

    def _addresses(self) -> None:
        model = f"   (model {', '.join(map(repr, self._loaded()))})" if self._cards else ""
        self.say(f"\n  chat   {self._url}/\n  API    {self._url}/v1{model}\n  docs   {self._url}/docs")

    def _quiet(self) -> None:
        """No bar from here on."""
        if self._bar is not None:
            self._bar.stop()


def _by_phase(card: ModelCard) -> list[tuple[str, float]]:
    """Seconds of each phase, its parts added up, in the order they began."""
    sums: dict[str, float] = {}
    for phase in card.phases:
        sums[phase.name] = sums.get(phase.name, 0.0) + phase.seconds
    return list(sums.items())
