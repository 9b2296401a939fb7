"""The servers of the browser tests: `freehold serve` as a person starts it (`tests/flow/served.py`), with `sim`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1] / "flow"))
from served import Served, freehold


@dataclass
class Server:
    """One running `freehold serve` and its children."""

    url: str
    model: str
    served: Served
    api_key: str = ""

    def kill(self) -> None:
        """Ends the supervisor as a power cut would; its children notice and leave."""
        self.served.process.kill()
        self.served.process.wait()

    def kill_gateway(self) -> None:
        """The supervisor starts another."""
        children = psutil.Process(self.served.process.pid).children()
        gateway = next(child for child in children if "gateway" in child.cmdline())
        gateway.kill()


@contextmanager
def running(
    home: Path, *, model: str = "starter", slow: float = 25, api_keys: str = "auto", environ: Mapping[str, str] = {}
) -> Iterator[Server]:
    """A server that is ready; stopped at the end.

    `slow` 25 gives about 220 tokens/s to one answer, 250 gives 22.
    """
    key = ""
    if api_keys == "on":
        key = json.loads(freehold("keys", "add", "test", "--json", home=home).stdout.splitlines()[-1])["key"]
    settings = {
        "FREEHOLD_SERVER_API_KEYS": api_keys,
        "FREEHOLD_MODEL_NAME": model,
        "FREEHOLD_ENGINE_SIM_SPEED": "10",  # loads at once
        "FREEHOLD_ENGINE_SIM_FAULTS": f"slow={slow}",
        **environ,
    }
    with Served(home, "sim", environ=settings) as served:
        yield Server(served.url.rstrip("/") + "/", model, served, key)


class StartServer:
    """Starts servers of one test, and ends them after it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> StartServer:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, *, slow: float = 25, api_keys: str = "auto") -> Server:
        return self._stack.enter_context(running(self._folder, slow=slow, api_keys=api_keys))
