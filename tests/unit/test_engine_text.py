"""Stop strings and log-probabilities of one answer, token by token."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from freehold.core import TokenLogprob
from freehold.engine.text import Draft, StopScan
from freehold.errors import EngineFailed

LETTERS = st.text("ab", max_size=4)


def scanned(pieces: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    """What is shown after each piece, the end included, and the stop string that was found."""
    scan = StopScan(stops)
    shown = []
    for piece in pieces:
        shown.append(scan.feed(piece))
        if scan.found is not None:
            return shown, scan.found
    return [*shown, scan.end()], None


@given(st.lists(LETTERS, max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
@example(["a", "ab"], ["aab"])
@example(["aa", "b", "ab"], ["bb", "aba"])
def test_shows_all_up_to_the_stop_that_is_whole_first(pieces: list[str], stops: list[str]) -> None:
    shown, found = scanned(pieces, stops)
    whole = "".join(pieces)
    if found is None:
        assert "".join(shown) == whole
        assert not any(stop in whole for stop in stops)
        return
    read = "".join(pieces[: len(shown)])
    assert "".join(shown) == read[: min(read.find(stop) for stop in stops if stop in read)]
    before = "".join(pieces[: len(shown) - 1])
    assert not any(stop in before for stop in stops)


@given(st.lists(LETTERS, max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_holds_what_a_stop_could_begin_with_and_no_more(pieces: list[str], stops: list[str]) -> None:
    scan = StopScan(stops)
    read = shown = ""
    for piece in pieces:
        read += piece
        shown += scan.feed(piece)
        if scan.found is not None:
            return
        starts = [at for at in range(len(read)) if any(stop.startswith(read[at:]) for stop in stops)]
        assert shown == read[: min(starts, default=len(read))]


def test_holds_back_no_more_than_it_must() -> None:
    scan = StopScan(["</end>"])
    assert scan.feed("Hello <") == "Hello "
    assert scan.feed("b> and </e") == "<b> and "
    assert scan.feed("nd> gone") == ""
    assert scan.found == "</end>"


def test_longest_of_stops_that_begin_together() -> None:
    assert scanned(["x stop it"], ["stop", "stop it"]) == (["x "], "stop it")


def logprob(text: str) -> TokenLogprob:
    return TokenLogprob(text, -1.0, tuple(text.encode()))


def test_logprobs_wait_with_their_text() -> None:
    draft = Draft("r", 0, 3, ["END"])
    texts = ["go", " E", "X", "E", "ND"]
    chunks = [draft.extend(text, 1, [logprob(text)]) for text in texts]
    assert [chunk.text for chunk in chunks] == ["go", " ", "EX", "", ""]
    shown = [[one.token for one in chunk.logprobs or ()] for chunk in chunks]
    assert shown == [["go"], [], [" E", "X"], [], []]
    assert [chunk.offset for chunk in chunks] == [0, 1, 2, 3, 4]
    assert (chunks[-1].finish, chunks[-1].stop) == ("stop", "END")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


def test_an_end_by_length_gives_back_what_was_held() -> None:
    draft = Draft("r", 1, 3, ["END"])
    assert draft.extend("one E", 1, [logprob("one E")]).text == "one "
    last = draft.extend("N", 1, [logprob("N")], finish="length")
    assert (last.text, last.finish, last.stop) == ("EN", "length", None)
    assert [one.token for one in last.logprobs or ()] == ["one E", "N"]


def test_stops_are_not_looked_for_before_min_tokens() -> None:
    draft = Draft("r", 0, 1, ["x"], min_tokens=3)
    assert [draft.extend("x").finish for _ in range(3)] == [None, None, "stop"]


def test_a_failure_ends_with_what_was_held_and_the_counts() -> None:
    draft = Draft("r", 0, 4, ["END"])
    draft.extend("some E")
    last = draft.end("error", EngineFailed("It broke.").failure())
    assert (last.text, last.tokens, last.offset, last.finish) == ("E", 0, 1, "error")
    assert last.failure is not None
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, 1)
