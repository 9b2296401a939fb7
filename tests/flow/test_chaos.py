"""`freehold chaos` against a real server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from served import FREEHOLD, Served


def test_bad_clients_lose_nothing(tmp_path: Path) -> None:
    with Served(tmp_path, "sim:instant") as server:
        command = [*FREEHOLD, "chaos", server.url, "--tries", "3", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        told = json.loads(done.stdout.splitlines()[-1])
        assert (done.returncode, told["lost"]) == (0, 0), done.stderr
        assert [trial["name"] for trial in told["trials"]] == [
            "undisturbed", "cut and resume", "vanish", "half requests", "malformed", "burst",
        ]  # fmt: skip
