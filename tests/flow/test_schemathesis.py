"""A fuzzer that reads /openapi.json: what the document promises holds, whatever is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from server import Server

EXAMPLES = 4
NOT_CHECKED = "positive_data_acceptance"
"""Some rules stand between fields (`stream_options` needs `stream`): a JSON schema can't say them, so a request that
keeps the schema may still be refused."""
LONGEST_S = 300


def test_the_document_is_truthful(tmp_path: Path) -> None:
    flags = {"server.max_output_tokens": 64, "server.body_timeout_s": 5.0}
    with Server(tmp_path / "server", spec={"context_tokens": 256}, flags=flags) as server:
        before = [row["pid"] for row in server.worker_rows()]
        found = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
                *(
                    "--checks",
                    "all",
                    "--exclude-checks",
                    NOT_CHECKED,
                    "--workers",
                    "2",
                    "--max-examples",
                    str(EXAMPLES),
                    "--seed",
                    "1",
                    "--request-timeout",
                    "30",
                ),
                *("--generation-database", "none", "--no-color"),
            ],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
        assert [row["pid"] for row in server.worker_rows()] == before
        assert "gateway.bug" not in server.gateway_log()
        assert "task_failed" not in server.gateway_log()
