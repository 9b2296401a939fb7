"""Writes constraints.txt (base and development) and constraints-torch.txt with pip-tools.

No address, no hash of a mirror, no path: names and versions alone, so the files mean the same anywhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH_PINS = ["torch==2.13.0", "transformers==5.23.0"]
HEADER = "# Versions that were tested together. Written by `make lock`; change pyproject.toml, not this file.\n"


def compile_pins(requirements: list[str], against: str = "") -> str:
    """Pinned `name==version` lines for requirements, by pip-compile."""
    work = ROOT / "build" / "lock"
    work.mkdir(parents=True, exist_ok=True)
    (work / "wanted.in").write_text("\n".join(requirements) + "\n")
    (work / "against.txt").write_text(against)
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--allow-unsafe"]
    command += [
        "--constraint",
        str(work / "against.txt"),
        "--output-file",
        str(work / "pinned.txt"),
        str(work / "wanted.in"),
    ]
    (work / "pinned.txt").unlink(missing_ok=True)
    subprocess.run(command, check=True, cwd=work)
    lines = re.sub(r"\+\w+$", "", (work / "pinned.txt").read_text(), flags=re.M).splitlines()
    return "\n".join(line for line in lines if re.match(r"^[A-Za-z0-9]", line)) + "\n"


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    base = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    pins = compile_pins(base)
    (ROOT / "constraints.txt").write_text(HEADER + pins)
    torch = compile_pins(project["project"]["optional-dependencies"]["torch"] + TORCH_PINS, against=pins)
    extra = sorted(set(torch.splitlines()) - set(pins.splitlines()))
    (ROOT / "constraints-torch.txt").write_text(HEADER + "\n".join(extra) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
