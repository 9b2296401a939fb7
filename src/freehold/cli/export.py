"""`freehold export`: the alert rules, the SLO and a dashboard, for those who run Prometheus and Grafana."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.output import ConfigFile, JsonFlag, SetFlag, overrides, print_json
from freehold.errors import UsageError

NAMES = ("prometheus", "sloth", "openslo", "grafana")
FILES = {
    "prometheus": "freehold.rules.yml",
    "sloth": "freehold.sloth.yml",
    "openslo": "freehold.openslo.yml",
    "grafana": "freehold.dashboard.json",
}


def export(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[WHAT]...", help=f"Of {', '.join(NAMES)}; all of them unless told.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="Where the files go; without, one is printed.")
    ] = None,
    slo: Annotated[str | None, typer.Option("--slo", help="What is promised; default: observe.slo.")] = None,
    rules: Annotated[str | None, typer.Option("--rules", help="The rules (TOML); default: alerts.rules.")] = None,
    set_: SetFlag = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Write Prometheus recording and alert rules, Sloth and OpenSLO files, and a Grafana dashboard."""
    from freehold import config as settings

    chosen = tuple(dict.fromkeys(what or NAMES))
    for name in chosen:
        if name not in NAMES:
            raise UsageError(f"{name!r} can't be exported.", next=f"There are {', '.join(NAMES)}.")
    if out is None and len(chosen) > 1:
        raise UsageError("Several files can't be printed as one.", next="Name one of them, or a folder with --out.")
    flags = {**overrides(set_), "observe.slo": slo, "alerts.rules": rules}
    config, _ = settings.load(flags, file=Path(config_file) if config_file else None)
    texts = _texts(config.observe.slo, config.alerts.rules, chosen, all_asked=not what)
    if out is None:
        text = texts[chosen[0]]
        print_json({"name": chosen[0], "text": text}) if as_json else print(text, end="")
        return
    written = _write(Path(out), texts)
    if as_json:
        print_json({"files": [str(path) for path in written]})
        return
    for path in written:
        print(path)


def _texts(slo: str, rules_path: str, chosen: tuple[str, ...], *, all_asked: bool) -> dict[str, str]:
    from freehold import slo as promises
    from freehold.telemetry.builtin import built_in
    from freehold.telemetry.measures import unknown
    from freehold.telemetry.monitoring import grafana, prometheus, slofiles
    from freehold.telemetry.rules import read

    objectives = promises.parse(slo) if slo else ()
    rules = built_in(objectives)
    if rules_path:
        rules = read(Path(rules_path), rules, unknown)
    if not objectives:
        of_slo = [name for name in chosen if name in ("sloth", "openslo")]
        if of_slo and not all_asked:
            raise UsageError(f"There is no SLO to write for {of_slo[0]}.", next="Give one: --slo 'p99 e2e < 500ms'.")
        chosen = tuple(name for name in chosen if name not in of_slo)
    write: dict[str, Callable[[], str]] = {
        "prometheus": lambda: prometheus.rules_file(rules),
        "sloth": lambda: slofiles.sloth(objectives),
        "openslo": lambda: slofiles.openslo(objectives),
        "grafana": lambda: grafana.dashboard(objectives),
    }
    return {name: write[name]() for name in chosen}


def _write(folder: Path, texts: dict[str, str]) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / FILES[name]).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Can't write to {folder}.", f"{error.strerror}.") from error
    return [folder / FILES[name] for name in texts]
