"""`freehold serve` as a person starts it, on a free port, for tests that need the whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

FREEHOLD = (sys.executable, "-m", "freehold")
PATIENCE_S = 120.0


class Served:
    """`with Served(home, "sim:instant") as server:`; `told` is the JSON line it printed when it served."""

    def __init__(
        self, home: Path, *arguments: str, environ: Mapping[str, str] | None = None, command: str = "serve"
    ) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.environ = {**os.environ, "FREEHOLD_HOME": str(home), **(environ or {})}
        self.log = home / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*FREEHOLD, command, *arguments, *(() if command == "work" else ("--port", "0")), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environ,
                cwd=home,
                text=True,
            )
        self.told: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self.told = self.line()
            assert self.told.get("state") == "serving", f"{self.told}\n{self.log.read_text()[-4000:]}"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    @property
    def url(self) -> str:
        return str(self.told["url"])

    def line(self) -> dict[str, Any]:
        """The next JSON line on its standard output."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, f"it ended with {self.process.wait(PATIENCE_S)}:\n{self.log.read_text()[-4000:]}"
        return dict(json.loads(text))


def freehold(*arguments: str, home: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    environ = {**os.environ, "FREEHOLD_HOME": str(home), "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(
        [*FREEHOLD, *arguments], capture_output=True, text=True, env=environ, timeout=PATIENCE_S, cwd=home, **more
    )
