"""Where an interrupted answer stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core import Chunk, TokenLogprob
from freehold.engine.given import Given, given_of, place
from freehold.engine.text import Draft
from freehold.errors import CannotResume

TEXT = "a ż 🙂b\n\nUser: ok"
BYTES = TEXT.encode()


def bytes_of(ids: object) -> bytes:
    return bytes(ids)  # type: ignore[call-overload,no-any-return]  # each byte is a token here


def draft(stops: tuple[str, ...]) -> Draft:
    return Draft("r", 0, 5, stops)


def write(one: Draft, ids: bytes, before: bytes = b"", logprobs: bool = False) -> list[Chunk]:
    """A token a byte; a character's text comes with its last byte."""
    chunks = []
    for i in range(len(ids)):
        known, more = (before + ids[:i]).decode(errors="ignore"), (before + ids[: i + 1]).decode(errors="ignore")
        entries = [TokenLogprob("t", -1.0)] if logprobs else None
        chunk = one.extend(more[len(known) :], 1, entries)
        chunk.ids = (ids[i],) if chunk.tokens else ()
        chunks.append(chunk)
    return chunks


@pytest.mark.parametrize("logprobs", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@given(cut=st.integers(0, len(BYTES)), stops=st.sampled_from([(), ("never", "\n\nUsed"), ("🙂c",)]))
def test_the_shown_text_is_the_same_wherever_it_was_cut(
    cut: int, stops: tuple[str, ...], whole: bool, logprobs: bool
) -> None:
    first = write(draft(stops), BYTES[:cut], logprobs=logprobs)
    past = given_of(first)
    try:
        stands = place(past, bytes_of, logprobs=logprobs, whole=whole)
    except CannotResume:
        assert logprobs
        assert whole
        return
    again = draft(stops)
    again.resume(past, stands, past.tokens - len(stands.ids))
    assert again.tokens == cut
    assert again.position == len(stands.ids)
    rest = write(again, BYTES[len(stands.ids) :], BYTES[: len(stands.ids)], logprobs)
    rest.append(again.end("stop"))
    assert "".join(chunk.text for chunk in [*first, *rest]) == TEXT
    assert sum(chunk.tokens for chunk in [*first, *rest]) == again.tokens == len(BYTES)
    if logprobs:
        assert sum(len(chunk.logprobs or ()) for chunk in [*first, *rest]) == len(BYTES)


def test_a_stop_string_that_had_begun_still_ends_it() -> None:
    one = draft(("\n\nUser",))
    past = given_of(write(one, b"ok\n\nUs"))
    assert past.text == "ok"
    again = draft(("\n\nUser",))
    again.resume(past, place(past, bytes_of, logprobs=False, whole=False))
    chunk = write(again, b"er", b"ok\n\nUs")[-1]
    assert (chunk.finish, chunk.stop, chunk.text) == ("stop", "\n\nUser", "")


def test_unknown_tokens_and_other_text_are_refused() -> None:
    for past in (Given(3, "abc", 0, (97, 98)), Given(3, "abd", 0, (97, 98, 99))):
        with pytest.raises(CannotResume):
            place(past, bytes_of, logprobs=False, whole=False)
