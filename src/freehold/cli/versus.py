"""`freehold versus URL_A URL_B`: the same requests to two servers, interleaved, and what differs.

The two requests of a pair go out about half a mean gap apart, and chance decides which is first, so that neither server
gets the better moments. Samples of each are kept like those of `freehold load`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.cli.versus_show import AGREEMENT, SIDES, Price, report
from freehold.core import Record
from freehold.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from freehold.cli.load_plan import Plan
    from freehold.core import Sample
    from freehold.loadtest.compare import Agreement
    from freehold.loadtest.generator import Run
    from freehold.loadtest.probe import Found

INTERRUPTED = 130
Text = str | None


def versus(
    url_a: Annotated[str, typer.Argument(metavar="URL_A", help="One server.")],
    url_b: Annotated[str, typer.Argument(metavar="URL_B", help="The other; it may be a paid API.")],
    rate: Annotated[float, typer.Option("--rate", help="Requests/s to each.")] = 1.0,
    seconds: Annotated[Text, typer.Option("--seconds", metavar="TIME", help="30, 10min; 30 s unless told.")] = None,
    requests: Annotated[int | None, typer.Option("--requests", min=1, help="At most so many to each.")] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="A text a line, or JSON lines.")] = None,
    input_tokens: Annotated[int | None, typer.Option("--input-tokens", min=1, help="Without --prompts.")] = None,
    output_tokens: Annotated[
        int | None, typer.Option("--output-tokens", min=1, help="At most; 64 unless told.")
    ] = None,
    model_a: Annotated[Text, typer.Option("--model-a", help="Default: the first.")] = None,
    model_b: Annotated[Text, typer.Option("--model-b", help="Default: the first.")] = None,
    api: Annotated[str, typer.Option("--api", help="chat or completions.")] = "chat",
    key_a: Annotated[Text, typer.Option("--api-key-a", envvar="FREEHOLD_API_KEY", show_default=False)] = None,
    key_b: Annotated[Text, typer.Option("--api-key-b", envvar="FREEHOLD_API_KEY_B", show_default=False)] = None,
    price_a: Annotated[Text, typer.Option("--price-a", metavar="IN:OUT", help="USD for a million tokens.")] = None,
    price_b: Annotated[Text, typer.Option("--price-b", metavar="IN:OUT", help="USD for a million tokens.")] = None,
    hour_a: Annotated[float, typer.Option("--per-hour-a", min=0.0, help="USD for an hour of that machine.")] = 0.0,
    hour_b: Annotated[float, typer.Option("--per-hour-b", min=0.0, help="USD for an hour of that machine.")] = 0.0,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME")] = "10min",
    out: Annotated[Path | None, typer.Option("--out", help="Keep samples and manifests in this folder.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed sends the same.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Send the same requests to two servers and tell what differs, beyond noise or not."""
    from rich.console import Console

    from freehold.cli.load import target_of
    from freehold.cli.load_plan import Wanted, plan, seconds_of
    from freehold.loadtest.probe import probe

    prices = {"a": _price(price_a, hour_a, "--price-a"), "b": _price(price_b, hour_b, "--price-b")}
    chosen = plan(
        Wanted(rate=rate, seconds=seconds, requests=requests, prompts=prompts, input_tokens=input_tokens,
               output_tokens=output_tokens or 64, seed=seed)
    )  # fmt: skip
    targets = [
        target_of(url, model, api, key or "", True, seconds_of(timeout, "--timeout"))
        for url, model, key in ((url_a, model_a, key_a), (url_b, model_b, key_b))
    ]
    console = Console(stderr=as_json, highlight=False)
    found = {side: probe(target, exact=False, seed=seed) for side, target in zip(SIDES, targets, strict=True)}
    with tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        interrupted = _play(Path(folder), found, chosen, rate, seed, console)
        told = report(Path(folder), prices, seed, console)
    if as_json:
        print_json({**told, "interrupted": interrupted})
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _price(text: str | None, hour_usd: float, option: str) -> Price | None:
    if text is None:
        return Price(hour_usd=hour_usd) if hour_usd else None
    try:
        input_usd, output_usd = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is not understood.", next="Write 0.15:0.60, USD for a million tokens in and out."
        ) from error
    return Price(input_usd=input_usd, output_usd=output_usd, hour_usd=hour_usd)


def _play(folder: Path, found: dict[str, Found], chosen: Plan, rate: float, seed: int, console: Console) -> bool:
    """Send to both, write down what came; True if somebody pressed Ctrl-C."""
    from freehold.cli.load_show import Live
    from freehold.loadtest.arrivals import Times, dice
    from freehold.loadtest.generator import play
    from freehold.loadtest.record import Recorder, manifest

    assert not isinstance(chosen.load, Record)
    times_s: Times = chosen.load
    first = dice(seed, "arrivals", 1 << 20).random(times_s.size) < 0.5
    schedules = {"a": times_s + ~first * (0.5 / rate), "b": times_s + first * (0.5 / rate)}
    prompts = chosen.prompts(found["a"].scale)
    command = " ".join(("freehold", *sys.argv[1:]))
    with ExitStack() as stack:
        runs: dict[str, Run] = {}
        recorders = {}
        for side in SIDES:
            target = found[side].target
            told = manifest("versus", command, url=target.url, model=target.model, seed=seed,
                            load={**chosen.told, "api": target.api}, started_unix_s=time.time())  # fmt: skip
            recorders[side] = stack.enter_context(Recorder(folder / side, told))
        for side in SIDES:
            runs[side] = play(found[side].target, schedules[side], prompts, seed=seed, keep_text=True)
            stack.callback(runs[side].close)
        pairs = stack.enter_context((folder / AGREEMENT).open("wb"))
        live = Live(console, float(times_s[-1]))
        try:
            for both in _together(runs):
                for side, samples in both.items():
                    recorders[side].add(samples)
                    live.show(runs[side].now_s, samples, sum(run.in_flight for run in runs.values()))
                for each in _agreements(runs):
                    pairs.write(msgspec.json.encode(each) + b"\n")
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
        finally:
            live.stop()
            for side, run in runs.items():
                run.close()
                recorders[side].add(run.rest)
        for side, run in runs.items():
            recorders[side].finish(run.now_s, interrupted=interrupted, vitals={"cpu_s": run.cpu_s})
    return interrupted


def _together(runs: dict[str, Run]) -> Iterator[dict[str, list[Sample]]]:
    """Both runs go on until both are over."""
    going = dict(runs)
    while going:
        both = {}
        for side, run in list(going.items()):
            told = next(run, None)
            if told is None:
                del going[side]
            else:
                both[side] = told[1]
        yield both


def _agreements(runs: dict[str, Run]) -> Iterator[Agreement]:
    """Of the pairs whose answers are both here by now; their texts are let go."""
    from freehold.loadtest.compare import agreement

    a, b = (runs[side].texts for side in SIDES)
    for number in sorted(a.keys() & b.keys()):
        yield agreement(number, a.pop(number), b.pop(number))
