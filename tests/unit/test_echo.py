"""What comes again is shown once; what differs is an error."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core import Chunk, TokenLogprob, Usage
from freehold.echo import Echo
from freehold.errors import ResumeFailed


def told(text: str, cuts: list[int]) -> list[Chunk]:
    """`text` in chunks of one token each, cut at `cuts`."""
    places = sorted({0, *(cut for cut in cuts if 0 < cut < len(text)), len(text)})
    parts = [text[a:b] for a, b in pairwise(places)]
    entry = (TokenLogprob("t", -1.0),)
    return [Chunk("a", 0, i, 1, part, entry, ids=(i,)) for i, part in enumerate(parts)]


TEXT = st.text("abc", min_size=1, max_size=12)


@given(text=TEXT, first=st.lists(st.integers(0, 12)), second=st.lists(st.integers(0, 12)), share=st.floats(0, 1))
def test_it_goes_on_after_what_was_shown(text: str, first: list[int], second: list[int], share: float) -> None:
    shown = told(text, first)
    shown = shown[: int(share * len(shown))]
    again = told(text, second)
    end = Chunk("a", 0, len(again), 0, "", None, "stop", Usage(completion_tokens=len(again)))
    echo = Echo(shown)
    heard = [new for chunk in [*again, end] if (new := echo.hear(chunk)) is not None]
    assert "".join(chunk.text for chunk in [*shown, *heard]) == text
    offset = len(shown)
    for chunk in heard:
        assert chunk.offset == offset
        assert chunk.tokens or chunk.finish
        offset += chunk.tokens
    assert heard[-1].usage is not None
    assert heard[-1].usage.completion_tokens == offset
    assert echo.over or len(again) < len(shown)


def test_another_text_and_an_early_end_are_refused() -> None:
    shown = told("abc", [1, 2])
    with pytest.raises(ResumeFailed):
        Echo(shown).hear(Chunk("a", 0, 0, 1, "x"))
    echo = Echo(shown)
    assert echo.hear(Chunk("a", 0, 0, 1, "ab")) is None
    with pytest.raises(ResumeFailed):
        echo.hear(Chunk("a", 0, 1, 0, "", None, "stop", Usage()))
    assert Echo(shown).hear(Chunk("a", 0, 0, 0, "", None, "cancelled", Usage())) is not None
