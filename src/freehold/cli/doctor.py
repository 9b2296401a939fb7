"""`freehold doctor`: what this machine can run, what is missing, and what to do about it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from freehold.cli.bar import Bar
from freehold.cli.output import JsonFlag, gib, print_json
from freehold.core import Record

Verdict = Literal["ok", "note", "missing"]


class Check(Record, frozen=True):
    """One line of the report. `advice` says what to do where the verdict isn't ok."""

    name: str
    verdict: Verdict
    value: str
    advice: str = ""


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Don't measure memory bandwidth and disk.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say what this machine can run: cores, memory, GPU, engines, measured bandwidth; and what is missing."""
    from rich.console import Console

    from freehold import config, machine

    found = machine.describe()
    home = config.home_dir()
    bar = Bar(Console(stderr=True))
    if not quick and sys.stderr.isatty():
        bar.show("", "measuring memory bandwidth and disk")
    bandwidth = None if quick else machine.memory_bandwidth_gb_s()
    disk = _disk(home, measure=not quick)
    if bandwidth is not None and disk.verdict != "missing":
        machine.keep_bandwidth(home, bandwidth)
    bar.stop()
    checks = [*_hardware(found, bandwidth), *_engines(), disk, _port(config.load()[0].server.port)]
    if as_json:
        print_json({"machine": found, "memory_bandwidth_gb_s": bandwidth, "checks": checks, "home": str(home)})
    else:
        _print(checks, home)
    if any(check.verdict == "missing" for check in checks):
        raise typer.Exit(1)


def _hardware(found: object, bandwidth: float | None) -> list[Check]:
    from freehold.machine import Machine

    assert isinstance(found, Machine)
    checks = [
        Check(
            name="cpu",
            verdict="ok",
            value=f"{found.cpu}, {found.cores} cores, {' '.join(found.features) or 'no vector features known'}",
        ),
        Check(
            name="memory",
            verdict="ok" if found.memory_free_bytes > 2 << 30 else "note",
            value=f"{gib(found.memory_free_bytes)} free of {gib(found.memory_bytes)}",
            advice="" if found.memory_free_bytes > 2 << 30 else "Small models only; close other programs.",
        ),
    ]
    if bandwidth is not None:
        told = f"{bandwidth:.1f} GB/s (measured: read plus write of plain copies)"
        ceiling = f"The ceiling for one stream of a model of 1 GB: about {bandwidth:.0f} tokens/s."
        checks.append(Check(name="memory bandwidth", verdict="ok", value=told, advice=ceiling))
    checks += [Check(name="gpu", verdict="ok", value=f"{g.name}, {gib(g.memory_bytes)}") for g in found.gpus]
    if not found.gpus:
        checks.append(Check(name="gpu", verdict="note", value="none seen", advice="Models run on the CPU."))
    return checks


def _engines() -> list[Check]:
    from freehold.engine import choose

    checks = []
    for name, version in choose.installed().items():
        if version is None:
            advice = "Run `pip install freehold` again; the base install has it."
            checks.append(Check(name=f"engine {name}", verdict="missing", value="not installed", advice=advice))
        else:
            checks.append(Check(name=f"engine {name}", verdict="ok", value=version or "part of Freehold"))
    return checks


def _disk(home: Path, *, measure: bool) -> Check:
    from freehold import machine

    try:
        home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(home).free
        synced = machine.sync_ms(home) if measure else None
    except OSError as error:
        advice = "Set FREEHOLD_HOME to a folder that can be written."
        return Check(name="home", verdict="missing", value=f"{home}: {error.strerror}", advice=advice)
    value = f"{home}, {gib(free)} free"
    if synced:
        value += f", a durable write takes {synced[0]:.1f} ms (worst of 30: {synced[1]:.1f} ms)"
    low = free < 5 << 30
    return Check(name="home", verdict="note" if low else "ok", value=value, advice="Models need room." if low else "")


def _port(port: int) -> Check:
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            advice = f"Something listens there (perhaps Freehold). Otherwise: freehold serve --port {port + 1}"
            return Check(name="port", verdict="note", value=f"{port} is taken", advice=advice)
    return Check(name="port", verdict="ok", value=f"{port} is free")


def _print(checks: list[Check], home: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in checks:
        table.add_row(
            marks[check.verdict], check.name, check.value + (f"\n[dim]{check.advice}[/]" if check.advice else "")
        )
    Console().print(table)
