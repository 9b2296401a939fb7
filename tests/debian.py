"""A program that tests need: found, or installed on Debian as root. Test processes that both miss it take turns."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def found_or_installed(names: Sequence[str], packages: Sequence[str]) -> str | None:
    """Path of the first of `names` that is there. None if there is none and it can't be installed here."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found or os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        return found
    with (Path(tempfile.gettempdir()) / "freehold-tests-apt.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not any(map(shutil.which, names)):  # else another was quicker
            environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
                subprocess.run(["apt-get", *command], check=True, env=environ, stdout=subprocess.DEVNULL)
    return next(filter(None, map(shutil.which, names)), None)
