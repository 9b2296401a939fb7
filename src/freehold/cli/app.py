"""The `freehold` command: gathers the commands and is the one place where errors become terminal text.

Exit codes are told in `errors.py`. Imports stay light so that `--help` is instant.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

import freehold
from freehold.cli import (
    alerts,
    batch,
    chaos,
    chat,
    config,
    cost,
    doctor,
    drain,
    export,
    gateway,
    jobs,
    keys,
    knee,
    load,
    profile,
    renew,
    report,
    requests,
    restarts,
    review,
    rollout,
    scale,
    serve,
    simulate,
    size,
    top,
    verdict,
    versus,
    work,
    workers,
)
from freehold.errors import FreeholdError, UsageError

app = typer.Typer(
    name="freehold",
    help="Own your LLM inference: serve an open model, measure it honestly, know what it costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SERVE, LOOK, CHANGE, MEASURE, MONEY, SET = (
    "Serve", "Look", "Change without loss", "Measure", "The money", "Set up",
)  # fmt: skip
app.command("serve", rich_help_panel=SERVE)(serve.serve)
app.command("gateway", rich_help_panel=SERVE)(gateway.gateway)
app.command("work", rich_help_panel=SERVE)(work.work)
app.command("chat", rich_help_panel=SERVE)(chat.chat)
app.command("batch", rich_help_panel=SERVE)(batch.batch)
app.command("load", rich_help_panel=MEASURE)(load.load)
app.command("knee", rich_help_panel=MEASURE)(knee.knee)
app.command("versus", rich_help_panel=MEASURE)(versus.versus)
app.command("workers", rich_help_panel=LOOK)(workers.workers)
app.command("top", rich_help_panel=LOOK)(top.top)
app.add_typer(jobs.app, name="jobs", rich_help_panel=LOOK)
app.command("requests", rich_help_panel=LOOK)(requests.requests)
app.add_typer(alerts.app, name="alerts", rich_help_panel=LOOK)
app.command("doctor", rich_help_panel=LOOK)(doctor.doctor)
app.command("size", rich_help_panel=MEASURE)(size.size)
app.command("simulate", rich_help_panel=MEASURE)(simulate.simulate)
app.command("profile", rich_help_panel=MEASURE)(profile.profile)
app.command("sweep", rich_help_panel=MEASURE)(profile.sweep)
app.command("scale", rich_help_panel=MEASURE)(scale.scale)
app.command("restarts", rich_help_panel=MEASURE)(restarts.restarts)
app.command("cost", rich_help_panel=MONEY)(cost.cost)
app.command("verdict", rich_help_panel=MONEY)(verdict.verdict)
app.command("review", rich_help_panel=MONEY)(review.review)
app.command("report", rich_help_panel=MONEY)(report.report)
app.command("chaos", rich_help_panel=MEASURE)(chaos.chaos)
app.command("drain", rich_help_panel=CHANGE)(drain.drain)
app.command("rollout", rich_help_panel=CHANGE)(rollout.rollout)
app.command("reload", rich_help_panel=CHANGE)(renew.reload)
app.command("upgrade", rich_help_panel=CHANGE)(renew.upgrade)
app.command("export", rich_help_panel=SET)(export.export)
app.command("config", rich_help_panel=SET)(config.config)
app.add_typer(keys.app, name="keys", rich_help_panel=SET)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"freehold {freehold.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Own your LLM inference: serve an open model, measure it honestly, know what it costs."""


def main() -> None:
    """Run the command; a `FreeholdError` becomes three plain lines and its exit code."""
    try:
        sys.exit(app(standalone_mode=False))
    except FreeholdError as error:
        show(error)
        sys.exit(error.exit_code)
    except typer.TyperException as error:  # a wrong option, a missing argument
        sys.exit(_called_wrongly(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _called_wrongly(error: typer.TyperException) -> int:
    """Says so, and where help is; nothing more where the help was just printed because nothing else was asked."""
    context = getattr(error, "ctx", None)
    command = context.command_path.replace("python -m freehold", "freehold") if context else "freehold"
    wrong = UsageError(error.format_message(), next=f"`{command} --help` lists what there is.")
    if wrong.what:
        show(wrong)
    return wrong.exit_code


def show(error: FreeholdError) -> None:
    """`error` on standard error; with `--json` also as the last line of standard output."""
    print(f"freehold: {error.what}", file=sys.stderr)
    for line in filter(None, (error.why, error.next)):
        print(f"  {line}", file=sys.stderr)
    if "--json" in sys.argv:
        told = {"code": error.code, "what": error.what, "why": error.why, "next": error.next}
        print(json.dumps({"error": told}))
