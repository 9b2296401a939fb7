"""One process under the supervisor: started, listened to over its tether, and explained when it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from freehold.core import Failure, Record, WorkerState
from freehold.worker import tether
from freehold.worker.pulse import Watch
from freehold.worker.restarts import Limits, Restarts
from freehold.worker.tether import Directive, GatewayOrder, Report, WorkOrder

_reports = msgspec.json.Decoder(Report)


class Child:
    """`name` stays through all its lives; `process`, `tether` and the fields below them belong to one."""

    def __init__(self, name: str, command: str, order: Record, limits: Limits, fds: Sequence[int] = ()) -> None:
        self.name = name
        self.order = order
        self.watch = Watch()
        self.restarts = Restarts(limits)
        self.since_unix_s = time.time()
        self.state: WorkerState = "starting"
        self.last_error = ""
        self.leaving = False
        """It was told to go: its end is no failure, and nobody follows it."""
        self.recycled = False
        """It leaves because it is near its memory limit, and is to be followed."""
        self.gone_at_s: float | None = None
        """When it left for good."""
        self.start_at_s: float | None = 0.0
        """When to start it (again); None while it runs."""
        self.phase = ""
        self.memory_bytes = 0
        self.loaded_bytes = 0
        """What it took when it was ready."""
        self.failure: Failure | None = None
        self.started_s = 0.0
        self.ready_at_s: float | None = None
        self.said_bye = False
        self.asked = False
        """It was told to leave: a second signal would insist."""
        self.hung_s = 0.0
        """It was killed because it should have moved this long ago."""
        self.process: subprocess.Popen[bytes] | None = None
        self.tether: socket.socket | None = None
        self._command = command
        self.fds = tuple(fds)
        self._unread = b""
        self._oom_kills = 0

    def start(self, program: Sequence[str], now_s: float) -> None:
        self.state, self.phase, self.failure, self.ready_at_s = "starting", "", None, None
        self.start_at_s, self.started_s, self._unread, self._oom_kills = None, now_s, b"", _oom_kills()
        self.said_bye, self.asked, self.hung_s, self.recycled = False, False, 0.0, False
        self.watch.begin()
        ours, theirs = tether.pair()
        with theirs:
            self.process = subprocess.Popen(
                [*program, self._command, "--internal", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), self.watch.fd, *self.fds),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),  # standard output belongs to the command a person typed
                process_group=0,  # Ctrl-C in a terminal is the supervisor's to handle
            )
        tether.write_line(ours.fileno(), self._order_of_this_life())
        ours.setblocking(False)
        self.tether = ours

    def reports(self, now_s: float) -> list[Report]:
        """What the child has said since, already taken to heart."""
        found: list[Report] = []
        for line in self._lines():
            report = _reports.decode(line)
            found.append(report)
            match report.state:
                case "loading":
                    self.state, self.phase = "loading", report.phase
                case "ready":
                    self.state, self.phase, self.ready_at_s = "ready", "", now_s
                    self.memory_bytes = self.loaded_bytes = report.memory_bytes
                case "recycle":
                    self.state, self.recycled = "draining", True
                case "leaving" | "used":
                    self.state, self.asked = "draining", True
                case "left":
                    self.said_bye = True
                case "failed":
                    self.failure = report.failure
                case "serving":
                    pass  # about another
        return found

    def exit_code(self) -> int | None:
        """Negative: the signal that killed it. None while it lives, or was never started."""
        return None if self.process is None else self.process.poll()

    def bury(self) -> str:
        """Close what belonged to the ended life; how it ended, in words."""
        assert self.process is not None, f"{self.name} has no life to end"
        assert self.process.returncode is not None, f"{self.name} lives"
        words = how_it_ended(self.process.returncode, _oom_kills() > self._oom_kills)
        if self.hung_s:
            words = f"hung: it should have moved {self.hung_s:.0f} s earlier, and was killed"
        if self.tether is not None:
            self.tether.close()
        self.process = self.tether = None
        self.state, self.phase, self.memory_bytes = "dead", "", 0
        return words

    def hangs(self, now_s: float) -> bool:
        """It lives, and has not moved for longer than its work can take. `hung_s` says how much longer."""
        if self.process is None or self.hung_s or not (late_s := self.watch.late_s(now_s)):
            return False
        self.hung_s, self.state = late_s, "hung"
        return True

    def left_well(self) -> bool:
        """Ended as it was told to, with nothing lost. A zero without the last words is an engine's `exit`."""
        assert self.process is not None
        return self.process.returncode == 0 and self.said_bye

    def tell(self, directive: Directive) -> None:
        """Now, and to every life after this one."""
        if isinstance(self.order, WorkOrder):
            lots = self.order.lots if directive.lots is None else directive.lots
            paths = self.order.pipe_paths if directive.pipe_paths is None else directive.pipe_paths
            self.order = msgspec.structs.replace(self.order, lots=lots, pipe_paths=paths)
        if self.tether is not None:
            tether.write_line(self.tether.fileno(), directive)

    def close(self) -> None:
        """It will have no other life."""
        self.watch.close()

    def ask_to_leave(self) -> None:
        """It finishes what it has begun. Once is enough."""
        if not self.asked:
            self.asked = True
            self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    @property
    def pid(self) -> int:
        return 0 if self.process is None else self.process.pid

    def _order_of_this_life(self) -> Record:
        if isinstance(self.order, WorkOrder | GatewayOrder):
            return msgspec.structs.replace(self.order, pulse_fd=self.watch.fd)
        return self.order

    def _lines(self) -> list[bytes]:
        if self.tether is None:
            return []
        try:
            while part := self.tether.recv(65536):
                self._unread += part
            self.tether.close()  # its other end is closed: the child is ending
            self.tether = None
        except (BlockingIOError, ConnectionResetError):
            pass
        *lines, self._unread = self._unread.split(b"\n")
        return lines


def how_it_ended(code: int, oom_killed: bool = False) -> str:
    """`was killed by SIGKILL (...)`: to follow the name of a process."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL" and oom_killed:
        return "was killed by the kernel, which had run out of memory (SIGKILL)"
    reasons = {
        "SIGKILL": "was killed by SIGKILL: by hand, or by a memory limit",
        "SIGSEGV": "crashed in native code (SIGSEGV)",
        "SIGBUS": "crashed in native code (SIGBUS): often a model file that shrank or a full disk",
        "SIGILL": "crashed on an instruction this processor lacks (SIGILL)",
        "SIGABRT": "was aborted by native code (SIGABRT)",
        "SIGFPE": "crashed in native code (SIGFPE)",
    }
    return reasons.get(name, f"was ended by {name}")


def _oom_kills() -> int:
    """Processes the kernel has killed for memory since boot; 0 where it doesn't say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
