"""Every engine goes on in the middle of an answer, or says that it can't: text, counts, stops and grammar as if nothing
had happened."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import jsonschema
import msgspec
import pytest

from conformance import Answer, Drive, chat, text
from freehold.core import Chunk, Request
from freehold.errors import CannotResume

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "intent": {"enum": ["lost_card", "lost_pin", "stolen_card"]},
        "name": {"type": "string", "maxLength": 12},
        "n": {"type": "integer", "minimum": 3, "maximum": 1200},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 2},
    },
    "required": ["intent", "name", "n", "tags"],
    "additionalProperties": False,
}


pytestmark = pytest.mark.parametrize("loaded", ["sim", "openvino", "llamacpp"], indirect=True)


def exact(drive: Drive) -> bool:
    """The same tokens whatever is read at once: of a real model the last bits of the logits may differ."""
    return drive.engine.card.engine == "sim"


def begin(drive: Drive, request: Request, given: Sequence[Chunk], choice: int = 0) -> Answer:
    """`given` and the rest of the answer as one; the checks of `Answer` hold across the seam."""
    again = msgspec.structs.replace(request, id=f"{request.id}+{len(given)}")
    drive.engine.add(again, choice, tuple(given))
    answer = drive.answers[again.id, choice]
    for chunk in given:
        answer.take(chunk)
    return answer


def go_on(drive: Drive, request: Request, given: Sequence[Chunk], choice: int = 0) -> Answer:
    answer = begin(drive, request, given, choice)
    drive.finish()
    return answer


def go_on_from_all(drive: Drive, request: Request, whole: Answer, every: int = 5) -> list[Answer]:
    """Cut at many places; what follows is written side by side."""
    answers = [begin(drive, request, whole.chunks[:cut]) for cut in range(1, len(whole.chunks), every)]
    drive.finish()
    return answers


@pytest.mark.parametrize(
    "bend",
    [
        {},
        {"temperature": 1.3, "seed": 11},
        {"temperature": 0.9, "seed": 3, "repetition_penalty": 1.3},
        {"logprobs": True},
        {"stop": (" never ever", "z")},
        {"stop": (" the", " a"), "logprobs": True},
        {"stop": ("\nUser", "e qu"), "temperature": 1.0, "seed": 5},
        {"min_tokens": 30, "max_tokens": 60},
        {"ignore_eos": True, "max_tokens": 50},
    ],
    ids=str,
)
def test_an_answer_goes_on_from_any_place(drive: Drive, bend: dict[str, Any]) -> None:
    if set(bend) & set(drive.engine.card.unsupported):
        pytest.skip("refused by name, as the conformance suite tests")
    request = chat(**bend)
    whole = drive.ask(request)
    for found in go_on_from_all(drive, request, whole):
        assert found.finish in ("stop", "length")
        assert request.sampling.min_tokens <= found.tokens <= (request.sampling.max_tokens or 0)
        if request.sampling.logprobs:
            assert len(found.logprobs) <= found.tokens
        assert not any(stop in found.text for stop in request.sampling.stop)
        if exact(drive):
            assert (found.text, found.tokens, found.logprobs) == (whole.text, whole.tokens, whole.logprobs)
            assert (found.finish, found.stop) == (whole.finish, whole.stop)


def test_every_choice_has_its_own_past(drive: Drive) -> None:
    request = chat(temperature=1.0, seed=4, n=2)
    first, second = drive.ask(request, 0), drive.ask(request, 1)
    for choice, whole in enumerate((first, second)):
        found = go_on(drive, request, whole.chunks[:4], choice)
        assert found.text.startswith("".join(chunk.text for chunk in whole.chunks[:4]))
        if exact(drive):
            assert found.text == whole.text


def test_penalties_count_what_was_given(drive: Drive) -> None:
    """A penalty so strong that no token comes twice, as far as there are others."""
    request = text("I lost my card and", presence_penalty=2.0, frequency_penalty=2.0, ignore_eos=True, max_tokens=24)
    whole = drive.ask(request)
    try:
        found = go_on(drive, request, whole.chunks[:12])
    except CannotResume:
        assert drive.engine.card.engine == "openvino"
        return
    if exact(drive):
        assert found.text == whole.text


def test_json_goes_on_where_its_grammar_stands(drive: Drive) -> None:
    request = chat(json_schema=SCHEMA, max_tokens=200)
    whole = drive.ask(request)
    jsonschema.validate(json.loads(whole.text), SCHEMA)
    for found in go_on_from_all(drive, request, whole, 4):
        assert found.finish == "stop", found.text
        jsonschema.validate(json.loads(found.text), SCHEMA)


def test_free_json_goes_on(drive: Drive) -> None:
    request = chat(json_schema={}, max_tokens=60, temperature=1.0, seed=1)
    whole = drive.ask(request)
    for found in go_on_from_all(drive, request, whole, 7):
        if found.finish == "stop":
            assert isinstance(json.loads(found.text), dict)


def test_a_pattern_is_the_library_s_to_follow(drive: Drive) -> None:
    if drive.engine.card.engine == "sim":
        pytest.skip("it writes no pattern by a grammar")
    schema = {"type": "string", "pattern": "^[a-z]{2,5}( [0-9]+)?$"}
    with pytest.raises(CannotResume):
        go_on(drive, chat(json_schema=schema), [Chunk("", 0, 0, 1, '"a', ids=(3,))])


def test_what_was_given_must_be_what_these_tokens_say(drive: Drive) -> None:
    request = chat(stop=("never",))
    whole = drive.ask(request)
    wrong = [Chunk(c.id, 0, c.offset, c.tokens, "Something else", ids=c.ids) for c in whole.chunks[:3]]
    with pytest.raises(CannotResume):
        go_on(drive, request, wrong)


def test_characters_of_several_tokens_go_on(drive: Drive) -> None:
    """Bytes of characters that no token holds whole: cut inside of them, nothing is lost or doubled."""
    schema = {"enum": ["żółć €5 🙂 ok"]}
    request = chat(json_schema=schema, max_tokens=120)
    whole = drive.ask(request)
    assert json.loads(whole.text) == schema["enum"][0]
    answers = []
    for cut in range(1, len(whole.chunks)):
        with suppress(CannotResume):  # a token that ends inside a character, after a whole one
            answers.append(begin(drive, request, whole.chunks[:cut]))
    drive.finish()
    assert answers
    assert {answer.text for answer in answers} == {whole.text}
