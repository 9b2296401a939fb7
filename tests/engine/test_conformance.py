"""What every engine owes the worker, whatever library runs behind it."""

from __future__ import annotations

import itertools
import json
import math
import re

import jsonschema
import pytest

from conformance import Answer, Drive, chat, text
from freehold.core import Request, Sampling
from freehold.engine.base import Engine
from freehold.errors import FreeholdError, InvalidRequest, PromptTooLong, UnsupportedParameter
from specs import CONTEXT_TOKENS, MAX_BATCH

PROMPT = "I lost my card and"
SPECIAL = re.compile(r"<\|\w+\|>")
"""A token that is no text: it has a log-probability and shows nothing."""
EVERY_TOKEN = tuple(range(150))
"""Stop token ids: enough of any vocabulary that a text soon meets one."""


def needs(drive: Drive, *names: str) -> None:
    """Skip where the engine says that it can't honour a parameter; that it says so is tested below."""
    missing = [name for name in names if name in drive.engine.card.unsupported]
    if missing:
        pytest.skip(f"{drive.engine.card.engine} has no {', '.join(missing)}")


# ---- the card, one answer -----------------------------------------------------------------------


def test_card_is_truthful(drive: Drive) -> None:
    card = drive.engine.card
    assert card.name == "m"
    assert card.source
    assert 0 < card.context_tokens <= CONTEXT_TOKENS
    assert card.max_batch == MAX_BATCH
    assert card.memory_bytes > 1 << 20
    known = {*Sampling.__struct_fields__, *Request.__struct_fields__}
    assert set(card.unsupported) <= known


def test_nothing_to_do_is_no_work(drive: Drive) -> None:
    step = drive.step()
    assert not step.chunks
    assert step.running == 0


def test_greedy_answer_ends_once_and_repeats(drive: Drive) -> None:
    first, second = drive.ask(chat()), drive.ask(chat())
    assert first.finish in ("stop", "length")
    assert first.tokens
    assert first.text == second.text
    assert first.tokens == second.tokens
    assert first.usage.prompt_tokens == second.usage.prompt_tokens > 0


def test_text_and_token_id_prompts(drive: Drive) -> None:
    assert drive.ask(text(PROMPT, max_tokens=6, ignore_eos=True)).tokens == 6
    by_id = drive.ask(text((20, 21, 22, 23, 24), max_tokens=6, ignore_eos=True))
    assert by_id.tokens == 6
    assert by_id.usage.prompt_tokens == 5


def test_max_tokens_ends_with_length(drive: Drive) -> None:
    answer = drive.ask(chat(max_tokens=5, ignore_eos=True))
    assert (answer.finish, answer.tokens) == ("length", 5)


def test_one_token(drive: Drive) -> None:
    assert drive.ask(chat(max_tokens=1)).tokens == 1


def test_min_tokens(drive: Drive) -> None:
    needs(drive, "min_tokens")
    assert drive.ask(chat(min_tokens=60, max_tokens=100)).tokens >= 60


def test_context_is_the_limit_without_max_tokens(drive: Drive) -> None:
    answer = drive.ask(chat(max_tokens=None, ignore_eos=True))
    assert answer.finish == "length"
    total = answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert CONTEXT_TOKENS - 2 <= total <= CONTEXT_TOKENS


def test_prompt_too_long(drive: Drive) -> None:
    assert isinstance(drive.refusal(chat("word and word " * CONTEXT_TOKENS)), PromptTooLong)
    assert drive.ask(chat()).tokens


# ---- how tokens are chosen ----------------------------------------------------------------------


def sampled(seed: int, **more: object) -> Request:
    return chat(temperature=1.5, seed=seed, max_tokens=24, ignore_eos=True, **more)


def test_seed_repeats_and_other_seeds_differ(drive: Drive) -> None:
    needs(drive, "seed")
    texts = [drive.ask(sampled(seed)).text for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_a_choice_is_the_seed_moved_on(drive: Drive) -> None:
    needs(drive, "seed")
    request = sampled(5, n=3)
    answers = [drive.add(request, choice) for choice in range(3)]
    drive.finish()
    assert len({answer.text for answer in answers}) > 1
    assert answers[2].text == drive.ask(sampled(7)).text


def test_seed_holds_among_others(drive: Drive) -> None:
    needs(drive, "seed")
    alone = drive.ask(sampled(11)).text
    others = [drive.add(sampled(seed)) for seed in range(20, 24)]
    among = drive.add(sampled(11))
    drive.finish()
    assert among.text == alone
    assert all(answer.tokens == 24 for answer in others)


@pytest.mark.parametrize(
    "bend",
    [
        {"top_p": 0.2},
        {"top_k": 2},
        {"min_p": 0.3},
        {"presence_penalty": 1.5},
        {"frequency_penalty": 1.5},
        {"repetition_penalty": 1.3},
        {"logit_bias": {20: 5.0, 21: -100.0}},
    ],
    ids=lambda bend: next(iter(bend)),
)
def test_sampling_parameters_are_taken(drive: Drive, bend: dict[str, object]) -> None:
    needs(drive, *bend)
    answer = drive.ask(chat(temperature=0.8, seed=3, max_tokens=16, ignore_eos=True, **bend))
    assert (answer.finish, answer.tokens) == ("length", 16)


def test_top_k_of_one_is_greedy(drive: Drive) -> None:
    needs(drive, "top_k")
    one = [drive.ask(chat(temperature=1.0, top_k=1, seed=seed, max_tokens=16)).text for seed in (1, 2)]
    assert one[0] == one[1]


# ---- what ends an answer ------------------------------------------------------------------------


def test_stop_string_is_cut_out(drive: Drive) -> None:
    needs(drive, "stop")
    full = drive.ask(text(PROMPT, ignore_eos=True)).text
    stop = full[9:16]
    answer = drive.ask(text(PROMPT, ignore_eos=True, stop=("never written", stop)))
    assert answer.text == full[: full.index(stop)]
    assert answer.finish == "stop"
    assert answer.stop == stop


def test_stop_string_that_never_comes_keeps_nothing_back(drive: Drive) -> None:
    needs(drive, "stop")
    full = drive.ask(text(PROMPT, ignore_eos=True))
    answer = drive.ask(text(PROMPT, ignore_eos=True, stop=(full.text[-4:] + "never", full.text[5:9] + "!?")))
    assert answer.text == full.text
    assert answer.finish == "length"


def test_stop_token_id(drive: Drive) -> None:
    needs(drive, "stop_token_ids")
    answer = drive.ask(chat(temperature=1.0, seed=1, max_tokens=100, ignore_eos=True, stop_token_ids=EVERY_TOKEN))
    assert answer.finish == "stop"
    assert answer.stop in EVERY_TOKEN
    assert answer.tokens < 100


# ---- what else can be asked ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chat", "text"])
def test_logprobs_are_well_formed(drive: Drive, kind: str) -> None:
    needs(drive, "logprobs")
    top = min(3, drive.engine.card.max_top_logprobs)
    asked = {"logprobs": True, "top_logprobs": top, "max_tokens": 12, "ignore_eos": True}
    answer = drive.ask(chat(**asked) if kind == "chat" else text(PROMPT, **asked))
    assert len(answer.logprobs) == answer.tokens
    assert SPECIAL.sub("", "".join(one.token for one in answer.logprobs)).strip() == answer.text.strip()
    for one in answer.logprobs:
        assert one.logprob <= 1e-6
        values = [value for _, value in one.top]
        assert len(values) <= top
        assert values == sorted(values, reverse=True)
        assert sum(math.exp(value) for value in values) <= 1.001
        if values:
            assert one.logprob <= values[0] + 1e-6


SCHEMA = {
    "type": "object",
    "properties": {
        "intent": {"enum": ["lost_card", "other"]},
        "urgent": {"type": "boolean"},
        "next": {"anyOf": [{"$ref": "#/$defs/step"}, {"type": "null"}]},
    },
    "required": ["intent", "urgent", "next"],
    "additionalProperties": False,
    "$defs": {
        "step": {
            "type": "object",
            "properties": {"kind": {"const": "block"}},
            "required": ["kind"],
            "additionalProperties": False,
        }
    },
}


def test_json_schema_is_satisfied(drive: Drive) -> None:
    needs(drive, "json_schema")
    answer = drive.ask(chat(json_schema=SCHEMA, max_tokens=400))
    assert answer.finish == "stop"
    jsonschema.validate(json.loads(answer.text), SCHEMA)


def test_every_unsupported_parameter_is_refused_by_name(drive: Drive) -> None:
    values = {
        "logprobs": True,
        "top_logprobs": 1,
        "logit_bias": {1: 1.0},
        "stop": ("x",),
        "stop_token_ids": (1,),
        "json_schema": {"type": "object"},
        "tools": ({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},),
        "ignore_eos": True,
    }
    for name in drive.engine.card.unsupported:
        with pytest.raises(UnsupportedParameter) as caught:
            drive.engine.add(chat(**{name: values.get(name, 1.5 if "penalty" in name else 1)}))
        assert caught.value.param == name
    stats = drive.engine.stats()
    assert (stats.running, stats.waiting) == (0, 0)


def test_more_alternatives_than_there_are_is_refused(drive: Drive) -> None:
    card = drive.engine.card
    if card.engine == "remote":
        pytest.skip("the remote decides")
    with pytest.raises(InvalidRequest) as caught:
        drive.engine.add(chat(logprobs=True, top_logprobs=card.max_top_logprobs + 1))
    assert caught.value.param in ("top_logprobs", "logprobs")


def test_embeddings(drive: Drive) -> None:
    texts = ["The quiet harbour", "A broken machine", "The quiet harbour"]
    if not drive.engine.card.embeddings:
        with pytest.raises(InvalidRequest):
            drive.engine.embed(texts)
        return
    vectors, tokens = drive.engine.embed(texts)
    assert tokens > 0
    assert len(vectors) == 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert len({len(vector) for vector in vectors}) == 1


# ---- many at once -------------------------------------------------------------------------------


def long(id: str = "") -> Request:
    return chat(id=id, max_tokens=300, ignore_eos=True)


def cancelled_at_once(drive: Drive, answer: Answer, id: str) -> None:
    before = answer.tokens
    drive.engine.abort(id)
    drive.step()
    assert answer.finish == "cancelled"
    assert answer.tokens == before
    assert answer.usage.completion_tokens == before


def test_abort_before_the_first_step(drive: Drive) -> None:
    request = long()
    cancelled_at_once(drive, drive.add(request), request.id)


def test_abort_while_it_runs(drive: Drive) -> None:
    request = long()
    answers = [drive.add(request, choice) for choice in range(2)]
    other = drive.add(long())
    drive.until(lambda: all(answer.tokens >= 3 for answer in answers))
    cancelled_at_once(drive, answers[0], request.id)
    assert answers[1].finish == "cancelled"
    drive.finish()
    assert (other.finish, other.tokens) == ("length", 300)


def test_abort_while_it_waits_for_a_place(drive: Drive) -> None:
    running = [drive.add(long()) for _ in range(MAX_BATCH)]
    request = long()
    waiting = drive.add(request)
    drive.until(lambda: all(answer.tokens for answer in running))
    assert not waiting.tokens
    cancelled_at_once(drive, waiting, request.id)


def test_abort_of_the_unknown_and_the_finished_is_nothing(drive: Drive) -> None:
    request = chat(max_tokens=2)
    drive.ask(request)
    drive.engine.abort(request.id)
    drive.engine.abort("nobody")
    assert not drive.step().chunks


def test_an_id_can_be_used_again_after_its_abort(drive: Drive) -> None:
    alone = drive.ask(chat(max_tokens=8, ignore_eos=True)).text
    first = drive.add(long("again"))
    drive.until(lambda: first.tokens > 0)
    cancelled_at_once(drive, first, "again")
    del drive.answers["again", 0]
    assert drive.ask(chat(id="again", max_tokens=8, ignore_eos=True)).text == alone


def test_one_joins_while_another_runs(drive: Drive) -> None:
    running = drive.add(long())
    drive.until(lambda: running.tokens >= 3)
    joined = drive.add(chat("Where is my money?", max_tokens=5, ignore_eos=True))
    drive.until(lambda: joined.ended)
    assert not running.ended
    drive.finish()
    assert running.tokens == 300


def test_forty_mixed_requests_all_end_once(drive: Drive) -> None:
    prompts = itertools.cycle(["Hello", "I lost my card and need a new one", "Why was I charged a fee? " * 8])
    answers = []
    for i, prompt in zip(range(40), prompts, strict=False):
        request = chat(prompt, max_tokens=1 + i % 17, temperature=(i % 3) / 2, seed=i)
        answers.append(drive.add(request))
        if i % 5 == 0:
            drive.step()
    drive.finish()
    assert {answer.finish for answer in answers} <= {"stop", "length"}


def test_stats_count_what_is_there(drive: Drive) -> None:
    answers = [drive.add(long()) for _ in range(MAX_BATCH + 3)]
    seen_running = 0
    while not all(answer.ended for answer in answers):
        drive.step()
        stats = drive.engine.stats()
        open_now = sum(not answer.ended for answer in answers)
        assert stats.running + stats.waiting == open_now
        assert stats.running <= MAX_BATCH
        assert stats.kv_usage is None or 0 <= stats.kv_usage <= 1
        seen_running = max(seen_running, stats.running)
        if answers[0].tokens > 20:
            for id, _ in drive.answers:
                drive.engine.abort(id)
    assert seen_running == MAX_BATCH


# ---- the end ------------------------------------------------------------------------------------


def test_close_with_work_running_then_again(fresh: Engine) -> None:
    fresh.add(long())
    fresh.step()
    fresh.close()
    fresh.close()
    with pytest.raises(FreeholdError):
        fresh.add(chat())
