"""Every command where it can't succeed: one JSON object as the last line, a documented exit code, no traceback."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer

from freehold import errors
from freehold.cli import app as cli

NOBODY = "http://127.0.0.1:9"
CALLS = {
    "serve": ["/no/such.gguf"], "chat": [NOBODY, "--message", "hello"], "load": [NOBODY, "--rate", "5"],
    "knee": [NOBODY], "versus": [NOBODY, NOBODY], "size": [NOBODY, "--rate", "1"], "simulate": ["--rate", "1"],
    "profile": ["no-such-model"], "sweep": ["no-such-model"], "restarts": [], "chaos": [NOBODY],
    "workers": ["--url", NOBODY], "jobs": ["--url", NOBODY], "doctor": ["--no-such-option"], "cost": [],
    "verdict": [], "report": ["/no/such/folder"], "drain": ["worker-1", "--url", NOBODY],
    "rollout": ["starter", "--url", NOBODY], "reload": ["--url", NOBODY], "upgrade": ["--url", NOBODY],
    "config": ["--set", "server.prt=1"], "keys": ["revoke", "nobody"], "gateway": [], "work": ["/no/such.gguf"],
    "batch": ["/no/such.jsonl"], "top": ["--url", NOBODY], "requests": [], "scale": [NOBODY], "review": [],
    "export": ["no-such-format"], "alerts": ["list", "--url", NOBODY],
}  # fmt: skip
DOCUMENTED = {1, 2, *(kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code"))}


def test_the_list_is_whole() -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    named = {name for name, command in group.commands.items() if not command.hidden}
    assert named == set(CALLS)


@pytest.mark.parametrize("command", CALLS)
def test_an_error_is_an_object_too(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["freehold", command, *CALLS[command], "--json"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr()
    told = json.loads(said.out.splitlines()[-1])
    assert {"code", "what", "why", "next"} == told["error"].keys()
    assert told["error"]["what"]
    assert left.value.code in DOCUMENTED - {0}
    assert "Traceback" not in said.out + said.err
