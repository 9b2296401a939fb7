"""Frames survive any cut of the stream, and what isn't a frame is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold import pipe
from freehold.core import Chunk, Failure, ModelCard, TokenLogprob, Usage, WorkerStatus

CARD = ModelCard(name="m", engine="sim", source="here", context_tokens=8, max_batch=2)
STATUS = WorkerStatus(name="worker-1", pid=7, state="busy", running=2)
CHUNKS = [
    Chunk("a", 0, 3, 1, "héllo", ids=(17,)),
    Chunk("b", 1, 0, 1, "x", (TokenLogprob("x", -0.5, (120,), (("y", -1.0),)),)),
    Chunk("c", 0, 9, 0, "", finish="stop", usage=Usage(prompt_tokens=2, completion_tokens=9), stop="END"),
    Chunk("d", 0, 0, 0, "", finish="error", failure=Failure(code="x", what="y")),
    Chunk("e", 0, 0, 0, "", finish="stop", embeddings=((0.25, 0.5),)),
]
FRAMES: list[pipe.AnyFrame] = [
    pipe.Hello("worker-1", 7, CARD), pipe.Status(STATUS), pipe.Tokens(CHUNKS, {"a": pipe.Begun(2, 1.5, 3)}),
    pipe.Wake(),
    pipe.Cancel("a"), pipe.Follow("a"), pipe.Drain(), pipe.Fleet([STATUS]),
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAMES), max_size=6), st.lists(st.integers(1, 60), max_size=40))
def test_any_cut_gives_the_same_frames(frames: list[pipe.AnyFrame], cuts: list[int]) -> None:
    data = b"".join(map(pipe.encode, frames))
    reader, got = pipe.Reader(), []
    for cut in cuts:
        got += reader.feed(data[:cut])
        data = data[cut:]
    got += reader.feed(data)
    assert got == frames


def test_an_overlong_frame_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        pipe.Reader().feed((pipe.MAX_FRAME_BYTES + 1).to_bytes(4, "little"))


def test_a_frame_that_is_not_ours_is_refused() -> None:
    body = msgspec.msgpack.encode(["nonsense", 1])
    with pytest.raises(msgspec.DecodeError):
        pipe.Reader().feed(len(body).to_bytes(4, "little") + body)


def test_an_owner_is_one_life_of_a_worker() -> None:
    assert pipe.owner("worker-1", 7) != pipe.owner("worker-1", 8)
