"""What the load command and its sending processes say to each other: length-prefixed msgpack frames over one socket.

The command makes the bodies and deals them out a little ahead of time; a process keeps time, sends, reads, and reports
four times a second. Either end sees the other's death as the end of the stream.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from freehold.core import Record
from freehold.loadtest.target import Address
from freehold.sample import Sample

LENGTH = struct.Struct("!I")


class Setup(Record, frozen=True, tag="setup"):
    """First of all: whom to ask, and how."""

    address: Address
    timeout_s: float
    family: int
    place: tuple[str | int, ...]
    """The socket address behind the host name, found once."""
    keep_text: bool = False
    users: tuple[int, ...] = ()
    """Closed loop: the numbers of the users this process plays; without any, each request has its own time."""
    user_seeds: tuple[int, ...] = ()
    """Closed loop: where each one's pauses come from."""
    until_s: float = 0.0
    """Closed loop: no user begins another request after this."""
    think_s: float = 0.0
    """Closed loop: mean pause after an answer."""
    think_varies: bool = False
    """Exponentially distributed pauses instead of equal ones."""
    stagger_s: float = 0.0
    """Closed loop: the first requests of all users are spread over this."""
    all_users: int = 0


class Begin(Record, frozen=True, tag="begin"):
    """The run's second 0, on the machine's monotonic clock, which all processes share."""

    zero_s: float


class Due(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request. `at_s` is when it is to be sent; in a closed loop the next free user takes it."""

    number: int
    at_s: float
    group: str
    request: bytes
    """Head and body, ready to be sent."""


class More(Record, frozen=True, tag="more"):
    """The next requests, in order of time; `last`: no others follow."""

    due: list[Due] = []
    last: bool = False


class Stop(Record, frozen=True, tag="stop"):
    """End now: cancel what runs, report it, leave."""


class Report(Record, frozen=True, tag="report"):
    """What a process has to tell. The first one, without samples, says that it is ready."""

    samples: list[Sample] = []
    texts: dict[int, str] = {}
    """With `keep_text`: the answers, by request number."""
    cpu_s: float = 0.0
    """Processor time since the run began."""
    in_flight: int = 0
    taken: int = 0
    """Of the requests it was handed, how many it has begun."""
    done: bool = False


Order = Setup | Begin | More | Stop
_encode = msgspec.msgpack.Encoder().encode


def frame(message: Record) -> bytes:
    data = _encode(message)
    return LENGTH.pack(len(data)) + data


class Frames:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes."""
        self._data += data
        at = 0
        while len(self._data) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(self._data, at)[0]
            if len(self._data) < end:
                break
            yield bytes(self._data[at + LENGTH.size : end])
            at = end
        del self._data[:at]
