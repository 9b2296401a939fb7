"""The life of one worker process: load the model, work until drained, leave with an exit code that says why.

`freehold work --internal FD` calls `main(FD)`: its `WorkOrder` comes over the tether (`tether.py`).
"""

from __future__ import annotations

import gc
import os
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import msgspec

from freehold import log
from freehold.core import ModelCard, Phase
from freehold.engine.base import Engine, EngineSpec
from freehold.errors import EngineFailed, FreeholdError, StoreAway
from freehold.ledger.open import is_remote, open_ledger
from freehold.ledger.protocol import Ledger
from freehold.model.source import Report as Progress
from freehold.profile import StepLaw, card_pace, open_profile
from freehold.worker.isolation import isolate
from freehold.worker.lease import Lease
from freehold.worker.loop import WorkLoop
from freehold.worker.pipes import Pipes
from freehold.worker.presence import Presence
from freehold.worker.pulse import Pulse
from freehold.worker.reach import AGAIN_S
from freehold.worker.signals import StopSignals
from freehold.worker.tether import WorkOrder, leave_with_supervisor, receive

FLUSH_S = 2.0
MOST_SIGNALS = 3
"""The first asks to finish, the second to give back what isn't; this one waits for nothing."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def main(fd: int) -> int:
    """A worker under a supervisor, whose end of the tether is `fd`."""
    order = receive(fd, WorkOrder)
    log.setup(order.log_level, order.log_format, worker=order.name)
    return run(order.spec, order.name, order.store_path, order.pipe_path, fd, order)


def run(
    spec: EngineSpec, name: str, store_path: str, pipe_path: str, status_fd: int | None = None,
    order: WorkOrder | None = None,
) -> int:  # fmt: skip
    """Work until SIGTERM or a `Drain` frame has been obeyed (0), or the model or engine fails (not 0). `order`: there
    is a supervisor, at the other end of `status_fd`."""
    life = secrets.token_hex(4) if is_remote(store_path) else ""
    presence = _presence(spec, name, status_fd, order, life)
    if order is not None and order.once:
        isolate(presence, order.memory_limit_bytes, order.cpu_limit_s)
    _name_process(name)
    _limit_threads(spec.threads)
    paths = (order.pipe_paths if order is not None else ()) or ((pipe_path,) if pipe_path else ())
    pipe = Pipes(paths, presence.greet, secret=b"" if order is None else order.pipe_secret)
    presence.use_pipes = pipe.use
    if order is not None and status_fd is not None:
        leave_with_supervisor(status_fd, presence.obey)
    try:
        ledger = None if order is not None else open_ledger(store_path)  # a person wants to hear of it at once
        engine, card = _load(spec, presence, pipe)
        ledger = ledger or _opened(store_path, presence, pipe)
        presence.loaded(pipe, card, engine.stats())
        presence.heart.begin(card, _law(spec))
        code = _work(engine, ledger, lambda: open_ledger(store_path), pipe, presence)
    except FreeholdError as error:
        if status_fd is None or not log.at_terminal():  # where the supervisor's command tells it
            log.event("worker.failed", level="error", why=str(error))
        presence.failed(error.failure())
        return error.exit_code
    except Exception as error:  # noqa: BLE001  the edge of the process
        log.event("worker.failed", level="error", error=error)
        presence.failed(EngineFailed(f"{name} failed.", f"{type(error).__name__}: {error}").failure())
        return 1
    presence.bye()
    return code


def _presence(spec: EngineSpec, name: str, status_fd: int | None, order: WorkOrder | None, life: str) -> Presence:
    if order is None:
        return Presence(name, spec.name, spec.engine, status_fd, variant=spec.source.label, life=life)
    pulse = None if order.pulse_fd is None else Pulse(order.pulse_fd)
    return Presence(
        name, spec.name, spec.engine, status_fd, variant=spec.source.label, lots=order.lots, pulse=pulse,
        memory_limit_bytes=order.memory_limit_bytes, life=life, once=order.once,
    )  # fmt: skip


def _load(spec: EngineSpec, presence: Presence, pipe: Pipes) -> tuple[Engine, ModelCard]:
    from freehold.engine.choose import build  # imports the engine's library, after the threads are limited

    def timed(name: Phase, detail: str) -> AbstractContextManager[Progress]:
        return presence.timed(pipe, name, detail)

    pipe.receive()
    engine = build(spec)
    card = engine.load(timed)
    if card.max_batch == spec.max_batch:  # memory may have cut it
        card = msgspec.structs.replace(card, max_batch_from=spec.max_batch_from)
    if card.pace is None and spec.profile:
        known = open_profile(spec.profile)
        pace, bytes_per_s = card_pace(known, card.max_batch), known.bandwidth_bytes_per_s
        card = msgspec.structs.replace(card, pace=pace, bandwidth_bytes_per_s=bytes_per_s)
    gc.collect()
    gc.freeze()  # what is loaded stays: no collection during a step looks at it again
    pipe.receive()
    return engine, card


def _opened(store_path: str, presence: Presence, pipe: Pipes) -> Ledger:
    """The ledger. One that is away is waited for with the model loaded, so that it can be served once it is back."""
    while True:
        try:
            return open_ledger(store_path)
        except StoreAway as error:
            presence.waits(pipe, str(error))
            time.sleep(AGAIN_S)


def _work(engine: Engine, ledger: Ledger, open: Callable[[], Ledger], pipe: Pipes, presence: Presence) -> int:
    # Until here SIGTERM just ended the process: nothing was claimed, and a load can't be interrupted.
    signals = StopSignals(insist=lambda: None if signals.count < MOST_SIGNALS else os._exit(1))
    lease = Lease(open, presence.owner, presence.heart)
    loop = WorkLoop(
        engine, ledger, pipe, presence,
        stop_asked=signals.asked, hurried=lambda: signals.count > 1, wake_fds=(signals.fileno(),), turned=lease.turned,
    )  # fmt: skip
    try:
        with lease:
            loop.run()
    except Exception:
        loop.give_up()
        raise
    finally:
        presence.heart.leaving()
        presence.stopped(pipe)
        pipe.flush(FLUSH_S)
        pipe.close()
        ledger.close()
    engine.close()
    return 0


def _law(spec: EngineSpec) -> StepLaw | None:
    """What its profile says of steps, where it has one."""
    profile = spec.profile or (spec.source.path if spec.engine == "sim" else "")
    return open_profile(profile).step if profile else None


def _limit_threads(threads: int) -> None:
    """Numeric libraries read these when they are imported."""
    if threads:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))


def _name_process(name: str) -> None:
    """`ps` and `top` show the worker's name (Linux)."""
    with suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8") as comm:
        comm.write(f"fh-{name}"[:15])
