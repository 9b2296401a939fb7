"""Writes docs/reference from the code, so that it can't disagree with it: commands, settings, errors, HTTP.

`make docs` writes; a unit test fails when the files are behind the code.
"""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code. -->\n\n"


def pages() -> dict[str, str]:
    """File name to text of every reference page."""
    return {
        "commands.md": commands(),
        "settings.md": settings(),
        "errors.md": errors(),
        "alerts.md": alerts(),
        "http.md": http(),
        "modules.md": modules(),
        "metrics.md": metrics(),
    }


def commands() -> str:
    """`--help` of every command, as a terminal 100 wide shows it."""
    from typer.testing import CliRunner

    from freehold.cli.app import app

    shown = [
        "serve",
        "chat",
        "batch",
        "workers",
        "requests",
        "alerts list",
        "alerts test",
        "alerts silence",
        "alerts unsilence",
        "alerts replay",
        "export",
        "drain",
        "rollout",
        "reload",
        "upgrade",
        "doctor",
        "cost",
        "verdict",
        "report",
        "config",
        "keys",
        "keys add",
        "keys list",
        "keys revoke",
    ]
    text = NOTE + "# Commands\n"
    for name in ["", *shown]:
        help = CliRunner().invoke(
            app, [*name.split(), "--help"], env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
        )
        lines = [line.rstrip() for line in help.output.replace("Usage: root", "Usage: freehold").strip().splitlines()]
        text += f"\n## freehold {name}\n\n```text\n".replace(" \n", "\n") + "\n".join(lines) + "\n```\n"
    return text


def settings() -> str:
    """Every setting with its default, environment name and meaning."""
    from freehold import config
    from freehold.settings import SECTIONS

    text = NOTE + "# Settings\n\nA flag beats the environment, which beats the file, which beats the default.\n"
    text += "The file is `freehold.toml` in the current folder, else in `FREEHOLD_HOME`, "
    text += "else the one given with `--config`.\n"
    text += "Any setting can be given to `freehold serve` as `--set section.key=value`.\n"
    for section in SECTIONS:
        text += f"\n## [{section}]\n\n| key | default | environment | what it is |\n|---|---|---|---|\n"
        for setting in (s for s in config.load(environ={})[1] if s.name.startswith(f"{section}.")):
            value = ", ".join(setting.value) if isinstance(setting.value, tuple) else setting.value
            default = f"`{value}`" if value != "" else "(none)"
            name = setting.name.split(".")[1]
            text += f"| `{name}` | {default} | `{config.env_name(setting.name)}` | {setting.help} |\n"
    return text


def errors() -> str:
    """The tree of errors with statuses and exit codes, from its own docstring."""
    from freehold import errors as module

    tree = inspect.getdoc(module) or ""
    return NOTE + f"# Errors and exit codes\n\n```text\n{tree}\n```\n"


def alerts() -> str:
    """Every built-in rule, and every metric that a rule can name."""
    from freehold.slo import parse
    from freehold.telemetry.builtin import built_in
    from freehold.telemetry.measures import MEASURES
    from freehold.telemetry.monitoring.promql import span

    promised = "p99 e2e < 500ms, error rate < 1%"
    text = NOTE + f"# Alert rules\n\nThe built-in ones, those that begin with `slo-` for `observe.slo = {promised}`.\n"
    text += "How they work and are changed: [alerts.md](../alerts.md).\n\n"
    text += "| rule | severity | fires when | over | for | over again at |\n|---|---|---|---|---|---|\n"
    for rule in built_in(parse(promised)):
        over = f"{span(rule.window_s)} and {span(rule.short_s)}" if rule.short_s else span(rule.window_s)
        clear = f"{rule.threshold if rule.clear is None else rule.clear:.4g} for {span(rule.clear_for_s)}"
        held = span(rule.for_s) if rule.for_s else "at once"
        crossed = f"`{rule.metric}` > {rule.threshold:.4g}"
        text += f"| `{rule.name}` | {rule.severity} | {rule.what}: {crossed} | {over} | {held} | {clear} |\n"
    text += "\n## Metrics\n\n`p50_` to `p99.9_` of ttft, itl, tpot, e2e, queue and step, as `p99_e2e_ms`; and:\n\n"
    text += "| metric | what it is | unit |\n|---|---|---|\n"
    for name, measure in MEASURES.items():
        text += f"| `{name}` | {measure.help} | {measure.unit} |\n"
    return text


def http() -> str:
    """Routes of the gateway with their first lines, from its OpenAPI document."""
    from freehold.gateway.docs import document

    paths = document(_gateway(), keys_required=False)["paths"]
    text = NOTE + "# HTTP\n\nThe running server has the whole document at `/openapi.json` and a page at `/docs`.\n\n"
    text += "| route | what it does | answers |\n|---|---|---|\n"
    for path, methods in paths.items():
        for method, told in methods.items():
            statuses = " ".join(told["responses"])
            text += f"| `{method.upper()} {path}` | {_first_sentence(told)} | {statuses} |\n"
    return text


def modules() -> str:
    """Every module with the first line of its docstring."""
    text = NOTE + "# Modules\n"
    source = ROOT / "src" / "freehold"
    for folder in sorted({path.parent for path in source.rglob("*.py")}):
        text += f"\n## {folder.relative_to(source.parent)}\n\n"
        for path in sorted(folder.glob("*.py")):
            first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
            text += f"- `{path.name}`: {' '.join(first.split())}\n"
    return text


def metrics() -> str:
    """Every metric of /metrics with its labels and what it is, from the registry itself."""
    from freehold.telemetry.metrics import Metrics

    text = NOTE + "# Metrics\n\n`GET /metrics` has them in Prometheus' text form. Histograms of latencies are made of "
    text += "sketches: a sample lies in the right bucket, or is within 1 % of its edge. What isn't known is left out. "
    text += "Counters count since this gateway began.\n\n| metric | kind | labels | what it is |\n|---|---|---|---|\n"
    for name, kind, labels, help in Metrics().described():
        told = ", ".join(f"`{label}`" for label in labels)
        text += f"| `{name}` | {kind} | {told} | {help} |\n"
    return text


def _first_sentence(told: dict[str, str]) -> str:
    return (told.get("description") or told.get("summary", "")).split(".")[0].replace("\n", " ")


def _gateway() -> FastAPI:
    """The gateway's application, with nothing behind it."""
    from freehold.config import Config
    from freehold.gateway.alert_setup import alerting
    from freehold.gateway.app import build
    from freehold.gateway.auth import Guard
    from freehold.gateway.desk import Desk
    from freehold.gateway.fleet import Fleet
    from freehold.gateway.responses.create import Responses
    from freehold.ledger.group import AsyncLedger
    from freehold.ledger.sqlite import SqliteLedger
    from freehold.telemetry.metrics import Metrics

    config = Config()
    ledger = AsyncLedger(lambda: SqliteLedger(ROOT / "never-opened.sqlite"))
    desk = Desk(ledger, Fleet(), config.server, Metrics(), lambda work: work.close())
    alerts = alerting(config, desk.observe, config.server.port)
    return build(desk, Guard(config.home, config.server), Responses(desk), alerts)


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
