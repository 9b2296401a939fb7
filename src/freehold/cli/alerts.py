"""`freehold alerts`: what fires, who is told, silences; and what rules would have done with what was recorded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from freehold.cli.output import ConfigFile, JsonFlag, SetFlag, overrides, print_json
from freehold.errors import UsageError

app = typer.Typer(help="Alerts: what fires, who is told, silences, and rules tried on what was recorded.")
Url = Annotated[str, typer.Option("--url", help="Address of the server.")]
LOCAL = "http://127.0.0.1:8000"
COLOURS = {"critical": "bold red", "warning": "yellow", "info": "cyan"}


@app.command("list")
def list_(url: Url = LOCAL, as_json: JsonFlag = False) -> None:
    """Alerts that are pending or firing, the last that are over, silences, and how telling goes."""
    from freehold.cli.http import get_json

    found = get_json(url, "/freehold/alerts")
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    console = Console(highlight=False)
    for alert in found["data"]:
        _show(console, alert)
    if not found["data"]:
        console.print(f"Nothing fires; {len(found['rules'])} rules are watched.")
    for alert in found["history"][:10]:
        lasted = f"lasted {alert['resolved_unix_s'] - alert['since_unix_s']:.0f} s"
        console.print(
            f"over     {_when(alert['resolved_unix_s'])}  {alert['rule']}, {lasted}", style="dim", markup=False
        )
    for silence in found["silences"]:
        reason = f" ({silence['reason']})" if silence["reason"] else ""
        console.print(f"silence  {silence['rule']} until {_when(silence['until_unix_s'])}{reason}", markup=False)
    for receiver in found["receivers"]:
        state = f"{receiver['waiting']} wait; {receiver['trouble']}" if receiver["trouble"] else "reached"
        console.print(f"{receiver['kind']:8} {receiver['host']}: {state}", markup=False)
    if found["rules_error"]:
        console.print(f"The rules' file was not taken: {found['rules_error']}", style="yellow", markup=False)


def _show(console: Any, alert: dict[str, Any]) -> None:
    style = COLOURS.get(alert["severity"], "") if alert["state"] == "firing" else "dim"
    quiet = f"  silenced until {_when(alert['silenced_until_unix_s'])}" if alert["silenced_until_unix_s"] else ""
    console.print(f"{alert['state']:8} {alert['severity']:8} {alert['rule']}{quiet}", style=style, markup=False)
    since = f"since {_when(alert['since_unix_s'])} ({time.time() - alert['since_unix_s']:.0f} s)"
    for line in (alert["what"], since, alert["cause"], alert["advice"]):
        if line:
            console.print(f"  {line}", markup=False)


def _when(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


@app.command("test")
def try_(url: Url = LOCAL, as_json: JsonFlag = False) -> None:
    """Send a test to every receiver now, and say what became of it. Exit code 1 if one wasn't reached."""
    from freehold.cli.http import post_json

    found = post_json(url, "/freehold/alerts/test", {})["data"]
    if as_json:
        print_json({"data": found})
    for each in found if not as_json else ():
        print(f"{each['kind']:13} {each['host']}: {'delivered' if each['delivered'] else each['why']}")
    if not found and not as_json:
        print("No receiver is set, so only the log is told. See `freehold config`, alerts.*.")
    if not all(each["delivered"] for each in found):
        raise typer.Exit(1)


@app.command()
def silence(
    rule: Annotated[str, typer.Argument(help="A rule's name, or a pattern like 'slo-*'.")],
    for_: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")] = "1h",
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever looks.")] = "",
    url: Url = LOCAL,
    as_json: JsonFlag = False,
) -> None:
    """Tell nobody of these alerts for a while. What still fires then is told."""
    from freehold.cli.http import post_json
    from freehold.telemetry.rules import seconds

    try:
        body = {"rule": rule, "seconds": seconds(for_), "reason": reason}
    except ValueError as error:
        raise UsageError(f"--for {for_}: {error}.") from None
    found = post_json(url, "/freehold/alerts/silence", body)
    if as_json:
        print_json(found)
        return
    print(f"{rule} is silenced until {_when(found['until_unix_s'])}. `freehold alerts unsilence {rule}` ends it.")


@app.command()
def unsilence(
    rule: Annotated[str, typer.Argument(help="As it was silenced.")], url: Url = LOCAL, as_json: JsonFlag = False
) -> None:
    """End a silence."""
    from freehold.cli.http import delete_json

    found = delete_json(url, f"/freehold/alerts/silence/{quote(rule, safe='')}")
    if as_json:
        print_json(found)
        return
    print(f"{rule} is told again.")


@app.command()
def replay(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Folder of a load run; without, the server's history.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Of the server whose history is read.")] = 8000,
    history: Annotated[str | None, typer.Option("--history", help="The history's file instead.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="How far back in the history: 2h, 7d.")] = None,
    slo: Annotated[str | None, typer.Option("--slo", help="What was promised; default: observe.slo.")] = None,
    rules: Annotated[str | None, typer.Option("--rules", help="The rules (TOML); default: alerts.rules.")] = None,
    batch: Annotated[int, typer.Option("--batch", help="Sequences the server of a load run ran at once.")] = 0,
    set_: SetFlag = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Try the rules on what was recorded: what would have fired, when, and how long before the SLO broke."""
    from freehold import config as settings
    from freehold.cli.alerts_replay import Asked, replayed, show

    if run is not None and (history is not None or since is not None):
        raise UsageError("A load run has a folder of its own.", next="Leave out --history and --since.")
    flags = {**overrides(set_), "observe.slo": slo, "alerts.rules": rules}
    config, _ = settings.load(flags, file=Path(config_file) if config_file else None)
    told = replayed(config, Asked(run=run, port=port, history=history, since=since, batch=batch))
    if as_json:
        print_json(told)
        return
    show(told)
