"""A supervisor in its own process, whose events the test reads as JSON lines.

Run as a script: `supervised.py HOME PROFILE FAULTS WORKERS STORE DRAIN_S`; the port is picked by the system. The fault
`stillborn` starts processes that end at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from freehold import log
from freehold.config import Config
from freehold.settings import EngineConfig, LogConfig, ServerConfig, StoreConfig
from freehold.worker.events import Event
from freehold.worker.restarts import Limits
from freehold.worker.supervisor import Supervisor

PATIENCE_S = 90.0


class Supervised:
    """Started on creation; `events` grows while `wait` reads."""

    def __init__(
        self, home: Path, profile: str, faults: str = "", workers: int = 1, store: str = "", drain_s: float = 30.0
    ) -> None:
        self.events: list[Event] = []
        self.log = home.with_name(home.name + ".log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(home), profile, faults, str(workers), store, str(drain_s)],
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def wait(self, kind: str, process: str = "") -> Event:
        """Read events up to the next of this kind (of this process)."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = msgspec.json.decode(line, type=Event)
            self.events.append(event)
            if event.kind == kind and process in ("", event.process):
                return event
        seen = [(event.kind, event.process, event.reason) for event in self.events]
        said = Path(self.log.name).read_text(encoding="utf-8")[-2000:]
        raise AssertionError(f"no {kind} of {process or 'anyone'}: {seen}\n{said}")

    def pid(self, process: str) -> int:
        """Of its latest life."""
        return next(e.pid for e in reversed(self.events) if e.kind == "started" and e.process == process)

    @property
    def url(self) -> str:
        return next(event.url for event in self.events if event.kind == "listening")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def left(self) -> int:
        """Its exit code; the rest of its events is read."""
        assert self.process.stdout is not None
        self.events += [msgspec.json.decode(line, type=Event) for line in self.process.stdout]
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


def gone(pid: int) -> bool:
    """No such process, or only its remains."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"


def main(home: str, profile: str, faults: str, workers: str, store: str, drain_s: str) -> int:
    from worker_line import sim

    log.setup("info", "json")
    config = Config(
        server=ServerConfig(port=0, drain_s=float(drain_s)),
        engine=EngineConfig(workers=int(workers)),
        store=StoreConfig(path=store),
        log=LogConfig(format="json"),
        home=Path(home),
    )

    def tell(event: Event) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
        sys.stdout.buffer.flush()

    limits = Limits(first_s=0.1, most_s=0.4, tries=3)
    if faults == "stillborn":
        program = (sys.executable, "-c", "raise SystemExit(9)")
        return Supervisor(config, sim(profile), on_event=tell, limits=limits, program=program).run()
    return Supervisor(config, sim(profile, faults), on_event=tell, limits=limits).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
