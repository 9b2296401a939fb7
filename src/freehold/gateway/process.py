"""The gateway process: one task group owns the pipe, the watch and the HTTP server, and drains them in a fixed order.

The first SIGTERM drains: new requests get 503, running ones are answered for up to `server.drain_s`. A second one
ends them at once, each with an error that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import msgspec
import uvicorn
import uvloop
from starlette.middleware.cors import CORSMiddleware

from freehold import log
from freehold.config import Config
from freehold.core import Json
from freehold.errors import FreeholdError, Unavailable
from freehold.gateway import app as application
from freehold.gateway.alert_setup import alerting
from freehold.gateway.alerting import Alerting
from freehold.gateway.auth import Guard
from freehold.gateway.batches.run import drive_batches
from freehold.gateway.desk import Desk
from freehold.gateway.door import Application, Door, identified
from freehold.gateway.fleet import Fleet
from freehold.gateway.losses import give_up, watch
from freehold.gateway.meeting import among_others
from freehold.gateway.pipe_server import PipeServer
from freehold.gateway.protocol import guarded
from freehold.gateway.responses.create import Responses
from freehold.gateway.signals import Signals
from freehold.gateway.stream import Handler
from freehold.gateway.watching import keep_watch, observer
from freehold.gateway.webhooks import call_webhooks
from freehold.ledger.group import AsyncLedger
from freehold.ledger.open import open_ledger
from freehold.ledger.protocol import Ledger
from freehold.ledger.roster import Place
from freehold.telemetry.metrics import Metrics

_EXPOSED = (
    "x-request-id",
    "openai-processing-ms",
    "x-freehold-queue-ms",
    "x-freehold-ttft-ms",
    "x-freehold-worker",
    "x-freehold-model",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
)
_LAST_WORDS_S = 2.0
_KEEP_ALIVE_S = 75
_LOOK_S = 0.02
_BEAT_S = 1.0
_GRACE_S = 1.0
_SWITCH_S = 0.0005
"""How long the event loop may keep the ledger's thread from running, and that one the loop: Python's own 5 ms would be
felt in every first token."""


def run(
    config: Config, store_path: Path | str, pipe_path: Path | str, listen_fd: int, status_fd: int | None = None,
    beat: Callable[[], None] = lambda: None, place: Place | None = None,
) -> int:  # fmt: skip
    """Serve on the bound, listening socket `listen_fd` until drained. Returns the exit code.

    To `status_fd` go JSON lines: `{"state": "ready", "port": N}`, then `{"state": "serving"}` once a worker that
    is ready has dialled in, then `{"state": "left"}`; or `{"state": "failed", "failure": ...}`. `beat` is called every
    second while the loop turns. `place`: others share the store, and are to find this gateway.
    """
    sys.setswitchinterval(_SWITCH_S)
    try:
        listener = socket.socket(fileno=listen_fd)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_serve(config, str(store_path), Path(pipe_path), listener, status_fd, beat, place))
    except (FreeholdError, ExceptionGroup) as raised:
        error = _known(raised)
        if status_fd is None or not log.at_terminal():  # where the supervisor's command tells it
            log.event("gateway.failed", level="error", why=str(error))
        _report(status_fd, {"state": "failed", "failure": msgspec.to_builtins(error.failure())})
        return error.exit_code
    _report(status_fd, {"state": "left"})
    return code


def _known(raised: FreeholdError | ExceptionGroup[Exception]) -> FreeholdError:
    """The error of ours in it, also out of a task group. Anything else is a bug, and raised again."""
    if isinstance(raised, FreeholdError):
        return raised
    ours = raised.subgroup(lambda each: isinstance(each, FreeholdError))
    if ours is None or not isinstance(error := ours.exceptions[0], FreeholdError):
        raise raised
    return error


def _opened(config: Config, store: str) -> Ledger:
    """Whoever serves without a queue need not outlive a power cut."""
    return open_ledger(store, fsync=config.store.redis_fsync, synced=config.server.mode != "stateful")


async def _serve(
    config: Config, store: str, pipe_path: Path, listener: socket.socket, status_fd: int | None,
    beat: Callable[[], None], place: Place | None,
) -> int:  # fmt: skip
    guard = Guard(config.home, config.server)
    fleet = Fleet()
    observe = observer(config, fleet)
    ledger = AsyncLedger(lambda: _opened(config, store))
    await ledger.start()
    try:
        async with asyncio.TaskGroup() as group:

            def spawn(work: Coroutine[object, object, object]) -> object:
                return group.create_task(_contained(work))

            name = "" if place is None else secrets.token_hex(8)
            alerts = alerting(config, observe, listener.getsockname()[1])
            desk = Desk(ledger, fleet, config.server, Metrics(), spawn, guard.key_of, observe, name)
            pipe = PipeServer(pipe_path, desk)
            await pipe.start()
            others = await among_others(pipe, desk, config.pipe, store, place)
            works = (watch(desk, config.store.keep_results_s), call_webhooks(desk), keep_watch(desk, config), *others)
            lasting = [group.create_task(work) for work in (*works, _contained(alerts.run()))]
            plain, outermost = _application(config, desk, guard, alerts)
            batching = group.create_task(drive_batches(desk, plain))
            server = _Server(_uvicorn(config, outermost))
            serving = group.create_task(server.serve(sockets=[listener]))
            gc.collect()
            gc.freeze()  # what is loaded stays: no collection while tokens pass looks at it again
            signals = Signals()
            await asyncio.wait(
                [serving, asyncio.ensure_future(server.listening.wait())], return_when=asyncio.FIRST_COMPLETED
            )
            _tell_ready(config, listener, guard, status_fd)
            lasting.append(group.create_task(_live(beat)))
            group.create_task(_announce(desk, status_fd))
            stops = [group.create_task(event.wait()) for event in (signals.first, signals.retire)]
            await asyncio.wait([serving, *stops], return_when=asyncio.FIRST_COMPLETED)
            if signals.retire.is_set() and not signals.first.is_set():
                await _retire(desk, server, signals, alerts)
            await _drain(desk, server, serving, signals, config.server.drain_s)
            await asyncio.wait([batching], timeout=_LAST_WORDS_S)  # to hand over what it drives
            pipe.close()
            await observe.stop()
            for work in (batching, *lasting):
                work.cancel()
            signals.release()
    finally:
        await ledger.close()
    return 0


def _tell_ready(config: Config, listener: socket.socket, guard: Guard, status_fd: int | None) -> None:
    port = listener.getsockname()[1]
    if status_fd is None or not log.at_terminal():
        log.event("gateway.ready", host=config.server.host, port=port, keys_required=guard.required)
    _report(status_fd, {"state": "ready", "port": port})


async def _live(beat: Callable[[], None]) -> None:
    """Show that the loop turns."""
    while True:
        beat()
        await asyncio.sleep(_BEAT_S)


async def _announce(desk: Desk, status_fd: int | None) -> None:
    """Tell once that a request sent now would be answered: a worker that is ready has dialled in, or would if asked."""
    while not desk.fleet.ready() and not desk.draining:  # noqa: ASYNC110  it happens once, while loading
        await asyncio.sleep(_LOOK_S)
    _report(status_fd, {"state": "serving"})


async def _drain(desk: Desk, server: _Server, serving: asyncio.Task[None], signals: Signals, drain_s: float) -> None:
    """Refuse the new, wait for the running, tell those that are cut off, close."""
    if not log.at_terminal():  # where the command tells it
        log.event("gateway.draining", open=desk.open, seconds=drain_s)
    waits = [asyncio.ensure_future(wait) for wait in (desk.drained(), signals.second.wait())]
    await asyncio.wait([*waits, serving], timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if desk.open:
        log.event("gateway.cut_off", level="warning", open=desk.open)
        why = "The server was stopped before the answer ended."
        give_up(desk, Unavailable(why, next="Send the request again.").failure())
        desk.followers.cut_off(
            Unavailable(why, next="It goes on in the background: fetch it by its id later.").failure()
        )
    server.should_exit = True
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(serving), _LAST_WORDS_S + 1.0)
    server.force_exit = True
    await serving


async def _retire(desk: Desk, server: _Server, signals: Signals, alerts: Alerting) -> None:
    """Another gateway has taken over: accept no more connections, answer everything that comes on those that are open,
    and close each once it is quiet. However long it takes, unless a stop is asked for."""
    desk.observe.retiring = True
    alerts.hand_over()
    for listening in server.servers:
        listening.close()
    await _wait_for(signals.first, _GRACE_S)
    while (desk.open or server.server_state.connections) and not signals.first.is_set():
        for connection in list(server.server_state.connections):
            connection.shutdown()
        await _wait_for(signals.first, _GRACE_S / 4)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


class _Server(uvicorn.Server):
    """uvicorn, with its signals left to us and a word when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _application(config: Config, desk: Desk, guard: Guard, alerts: Alerting) -> tuple[dict[str, Handler], Application]:
    """The plain routes, for batches too, and all of it behind the door."""
    responses = Responses(desk)
    plain = application.plain_routes(desk, responses)
    uploads, streams = application.upload_routes(desk), application.stream_route(desk, responses)
    built = application.build(desk, guard, responses, alerts)
    door: Application = Door(built, plain, uploads, streams, guard, config.server, desk.metrics, desk.observe)
    origins = config.server.cors_origins
    if not origins:
        return plain, door
    cors = CORSMiddleware(
        door, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=_EXPOSED
    )
    return plain, identified(cors)


def _uvicorn(config: Config, app: Application) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=guarded(config.server.body_timeout_s, config.server.stall_s),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(_LAST_WORDS_S),
        backlog=2048,
    )


async def _contained(work: Coroutine[object, object, object]) -> None:
    """The edge of a task: its failure is logged, and the process lives on."""
    try:
        await work
    except Exception as error:  # noqa: BLE001
        log.event("gateway.task_failed", level="error", error=error)


def _report(status_fd: int | None, line: Json) -> None:
    if status_fd is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(status_fd, msgspec.json.encode(line) + b"\n")
