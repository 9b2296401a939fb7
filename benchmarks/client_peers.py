"""Other load clients, each in a virtual environment of its own, told to do what ours does.

Both want a tokenizer although the server counts the tokens: they get the starter's, from a folder, so that nothing is
downloaded while they run. AIPerf takes names only, so the folder is laid out as its library's cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import freehold
from freehold.config import home_dir

REVISION = f"{1:040d}"
FILES = ("tokenizer.json", "tokenizer_config.json", "config.json")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    version: str
    packages: tuple[str, ...]
    arguments: Callable[[str, int, Path], list[str]]
    """Of its command: the server, the seconds, the folder of the environment."""

    def command(self, where: Path, url: str, seconds: int) -> list[str]:
        return [str(where / "bin" / self.name.lower()), *self.arguments(url, seconds, where)]

    def environ(self, where: Path) -> dict[str, str]:
        return {**OFFLINE, "HF_HOME": str(where / "cache")}


def _guidellm(url: str, seconds: int, where: Path) -> list[str]:
    return [
        "run", "--backend", f"kind=openai_http,target={url},model=mock",
        "--profile", "kind=constant,rate=20", "--constraint", f"kind=max_duration,seconds={seconds}",
        "--tokenizer", f"kind=hf_auto,model={where / 'tokenizer'}",
        "--data", "kind=synthetic_text,prompt_tokens=32,output_tokens=64",
        "--output", f"kind=json,path={where / 'out.json'}", "--disable-console",
    ]  # fmt: skip


def _aiperf(url: str, seconds: int, where: Path) -> list[str]:
    return [
        "profile", "-m", "mock", "--url", url, "--endpoint-type", "chat", "--streaming",
        "--request-rate", "20", "--arrival-pattern", "constant", "--benchmark-duration", str(seconds),
        "--isl", "32", "--osl", "64", "--use-server-token-count", "--tokenizer", "local/starter",
        "--ui", "none", "--output-artifact-dir", str(where / "out"),
    ]  # fmt: skip


PEERS = (
    # torch 2.13.0 is named because a range would bring CUDA along
    Peer("GuideLLM", "0.8.1", ("torch==2.13.0", "guidellm==0.8.1"), _guidellm),
    Peer("AIPerf", "0.13.0", ("aiperf==0.13.0",), _aiperf),
)


def installed(peer: Peer) -> Path:
    """Its environment under FREEHOLD_HOME/bench, made at the first use. Raises `RuntimeError` where that fails."""
    where = home_dir() / "bench" / f"{peer.name.lower()}-{peer.version}"
    if not (where / "bin" / peer.name.lower()).exists():
        print(f"installing {peer.name} {peer.version} into {where}", file=sys.stderr)
        for command in (
            [sys.executable, "-m", "venv", str(where)],
            [str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", *peer.packages],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"it can't be installed: {done.stderr.strip()[-300:]}")
    cached = where / "cache" / "hub" / "models--local--starter"
    for folder in (where / "tokenizer", cached / "snapshots" / REVISION):
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copy(Path(freehold.__file__).parent / "starter" / name, folder)
    (cached / "refs").mkdir(exist_ok=True)
    (cached / "refs" / "main").write_text(REVISION)
    return where
