"""The token pipe: frames between a gateway and its workers over one stream socket: a Unix one within a supervisor's own
processes, TCP between supervisors, where both sides first prove who they are (`Challenge`, `Proof`, `Welcome`).

A worker dials the gateway's socket and says `Hello`; from then on it sends one `Tokens` frame a step,
with the chunks of every running answer, and its `Status` when it changes. The gateway sends `Wake` when
work lies in the ledger, `Cancel`, `Follow`, `Drain`, and `AskSteps`. The supervisor dials the same socket, sends
`Fleet`, hears of models that are `Wanted`, and answers what it is asked to do (`Ask`, `Told`).

A frame is a 4-byte little-endian length, then one msgpack-encoded struct below.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from freehold.core import Chunk, Failure, Json, ModelCard, Record, StepRecord, WorkerStatus
from freehold.model_status import ModelStatus
from freehold.sketch import Told as Sketched

MAX_FRAME_BYTES = 64 << 20
VERSION = 1
"""Of the frames between supervisors, whose programs may differ in age."""


def owner(worker: str, pid: int, life: str = "") -> str:
    """Who holds a claim in the ledger: one life of a worker. Its successor has the same name, not the same claims.
    `life` tells those apart that have one pid: containers number their processes alike at each start."""
    return f"{worker}:{pid}:{life}" if life else f"{worker}:{pid}"


def life_of(owner: str) -> str:
    """An owner by name and pid alone: as its supervisor knows it."""
    return ":".join(owner.split(":")[:2])


class Frame(msgspec.Struct, array_like=True, tag_field="t"):
    """Base of all frames; the class name is the tag."""


class Challenge(Frame, tag="challenge"):
    """First frame of a gateway over TCP: who comes shall prove that it may use the store (`handshake.py`)."""

    version: int
    nonce: bytes


class Proof(Frame, tag="proof"):
    """The answer, and what the gateway shall prove in turn."""

    nonce: bytes
    mac: bytes


class Welcome(Frame, tag="welcome"):
    """Who this gateway is: the one that requests name as theirs. `mac` is its proof; empty on a Unix socket."""

    gateway: str
    mac: bytes = b""


class Hello(Frame, tag="hello"):
    """First frame of a worker. `card` is None until the model is loaded. Its claims are under
    `owner(worker, pid, life)`."""

    worker: str
    pid: int
    card: ModelCard | None = None
    life: str = ""


class StepSums(msgspec.Struct, array_like=True, frozen=True):
    """The steps of a worker's engine since it told them last, added up."""

    steps: int
    tokens: int
    """Given out."""
    running: int
    """Sum of the sequences that took part."""
    lone_tokens: int
    """Given out by steps with one sequence and no prompt to read."""
    lone_s: float
    bytes_read: float | None
    """Weights and cache, by arithmetic; None where the engine hides what it takes."""
    step_ms: Sketched
    """Its `total` is the time in steps."""


class Status(Frame, tag="status"):
    """A worker's own state, sent on every change and at most once a second while it runs."""

    status: WorkerStatus
    card: ModelCard | None = None
    steps: StepSums | None = None


class Begun(msgspec.Struct, array_like=True, frozen=True):
    """A worker has taken up a request."""

    attempt: int
    """The claim's fencing number: what a lower one says counts no more."""
    queued_ms: float
    """From accepted to claimed."""
    tokens: int = 0
    """Given by earlier attempts; this one goes on after them."""


class Tokens(Frame, tag="tokens"):
    """Everything one step produced. `begun` tells of the requests that are new in this frame."""

    chunks: list[Chunk]
    begun: dict[str, Begun] = {}
    unrecorded: list[str] = []
    """Requests that end here, and that the ledger can't be told of just now."""


class Wake(Frame, tag="wake"):
    """New work lies in the ledger."""


class Cancel(Frame, tag="cancel"):
    id: str


class Follow(Frame, tag="follow"):
    """Tell all of a request from its beginning, and what comes: the gateway is new to it, or missed something."""

    id: str
    gateway: str = ""


class Drain(Frame, tag="drain"):
    """Finish what runs, claim nothing more, leave: what SIGTERM says too."""


class AskSteps(Frame, tag="ask_steps"):
    """The gateway asks a worker for its newest steps, at most `last`. `number` comes back with the answer."""

    number: int
    last: int


class Steps(Frame, tag="steps"):
    """A worker's answer to `AskSteps`, oldest step first."""

    number: int
    steps: list[StepRecord]


RolloutState = Literal["finding", "loading", "comparing", "taking_over", "done", "rolled_back"]


class RolloutStatus(Record, frozen=True):
    """How far a new model is on its way to take an old one's place."""

    state: RolloutState
    name: str
    """The name in the API, which stays."""
    model: str
    """What is rolled out, as it was asked for."""
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    """Since it began."""
    canary_percent: int = 0
    window_s: float = 0.0
    old_answers: int = 0
    """Requests that ended while both were compared; so of the others."""
    new_answers: int = 0
    old_failed: int = 0
    new_failed: int = 0
    old_p99_ms: float | None = None
    """From claimed to ended."""
    new_p99_ms: float | None = None


class Fleet(Frame, tag="fleet"):
    """The supervisor's view of all its workers, dead and restarting ones included."""

    workers: list[WorkerStatus]
    rollout: RolloutStatus | None = None
    """The last one."""
    models: list[ModelStatus] = []
    """Those that are loaded when somebody asks for them; empty where a model stays once it is loaded."""
    host: str = ""
    """The name of its place; empty where there is only one."""
    ended: list[str] = []
    """Lives (`life_of` their owners) that ended lately: a connection's end alone is no death."""


class Wanted(Frame, tag="wanted"):
    """Somebody asks for a model of which nothing is known before it was loaded. Said again while they wait."""

    model: str


class DrainWorker(Record, frozen=True, tag="drain"):
    """`worker` shall finish and leave; with `replace`, once another is ready to take its place."""

    worker: str
    replace: bool = False


class RollOut(Record, frozen=True, tag="roll_out"):
    """`model` shall take the place of what is served under `name` ("": the only one), unless it does worse."""

    model: str
    name: str = ""
    canary_percent: int = 10
    """Its share of the requests while it is compared; 100: it takes over without being compared."""
    window_s: float = 60.0


class EndRollout(Record, frozen=True, tag="end_rollout"):
    """Roll back what is on its way."""


class Reload(Record, frozen=True, tag="reload"):
    """Read the settings again, and change what they change."""


class Upgrade(Record, frozen=True, tag="upgrade"):
    """Put a new process of the installed version in each one's place: first the gateway, then the workers."""


Order = DrainWorker | RollOut | EndRollout | Reload | Upgrade
"""What the supervisor can be asked to do."""


class Ask(Frame, tag="ask"):
    """The gateway asks the supervisor, for somebody who may. `number` comes back with the answer."""

    number: int
    order: Order


class Told(Frame, tag="told"):
    """The supervisor's answer to `Ask`: what it does now, or why it doesn't."""

    number: int
    told: Json = {}
    failure: Failure | None = None


AnyFrame = (
    Challenge | Proof | Welcome | Hello | Status | Tokens | Wake | Cancel | Follow | Drain | AskSteps | Steps | Fleet
    | Wanted | Ask | Told
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyFrame)


def encode(frame: Frame) -> bytes:
    """`frame` with its length in front, ready for the socket."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(4, "little") + body


class Reader:
    """Splits a byte stream into frames. Feed it what the socket gave; it yields what is complete."""

    def __init__(self, most_bytes: int = MAX_FRAME_BYTES) -> None:
        self.most_bytes = most_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[AnyFrame]:
        """Frames completed by `data`. Raises `ValueError` on a frame over `most_bytes` and
        `msgspec.DecodeError` on one that isn't ours: the peer is broken, close the connection."""
        self._buffer += data
        frames: list[AnyFrame] = []
        start = 0
        while len(self._buffer) - start >= 4:
            length = int.from_bytes(self._buffer[start : start + 4], "little")
            if length > self.most_bytes:
                raise ValueError(f"frame of {length} bytes, over the limit of {self.most_bytes}")
            if len(self._buffer) - start - 4 < length:
                break
            frames.append(_decoder.decode(memoryview(self._buffer)[start + 4 : start + 4 + length]))
            start += 4 + length
        if start:
            del self._buffer[:start]
        return frames
