"""The `sim` engine: its clock, its batch, its words, its schema instances and its dials."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance import Drive, chat, text
from freehold.clock import VirtualClock
from freehold.engine.sim.engine import SimEngine, words
from freehold.engine.sim.faults import Faults, parse_faults
from freehold.engine.sim.schema import instance
from freehold.errors import ConfigError, InvalidRequest, ModelError, PromptTooLong, from_failure
from freehold.profile import Profile, StepLaw, open_profile, save, step_ms
from specs import sim_spec, timed

LAW = StepLaw(base_ms=10.0, prefill_ms_per_token=0.5, sequence_ms=1.0, context_ms_per_token=0.01)
SMALL = Profile(
    name="small",
    model="m",
    engine="sim",
    machine="none",
    date="2026-11-22",
    source="made up for these tests",
    step=LAW,
    sweet_batch=4,
    max_batch=4,
    context_tokens=400,
    kv_bytes_per_token=2,
    max_batched_tokens=64,
)


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.json"
    save(SMALL, path)
    return str(path)


def opened(profile: str, clock: VirtualClock | None = None, **fields: Any) -> SimEngine:
    fields = {"sim_speed": 1.0, "context_tokens": 0, "max_batch": 0, **fields}
    engine = SimEngine(sim_spec(profile, **fields), clock or VirtualClock())
    engine.load(timed)
    return engine


# ---- time ---------------------------------------------------------------------------------------


def test_steps_take_what_the_law_says(small: str) -> None:
    clock = VirtualClock()
    engine = opened(small, clock)
    begun_s = clock.monotonic_s()
    drive = Drive(engine)
    drive.add(text("x" * 40, max_tokens=5, ignore_eos=True))
    ms = 0.0
    for read, context in [(10, 10), (0, 11), (0, 12), (0, 13), (0, 14)]:
        step = drive.step()
        assert (step.prefill_tokens, step.running, step.context_tokens) == (read, 1, context)
        ms += step_ms(LAW, read, 1, context)
        assert (clock.monotonic_s() - begun_s) * 1000 == pytest.approx(ms)
    assert drive.answers.popitem()[1].ended


@pytest.mark.parametrize(("speed", "share"), [(2.0, 0.5), (0.5, 2.0), (0.0, 0.0)])
def test_speed_scales_time_and_nothing_else(small: str, speed: float, share: float) -> None:
    spent, texts = [], []
    for sim_speed in (1.0, speed):
        clock = VirtualClock()
        drive = Drive(opened(small, clock, sim_speed=sim_speed))
        before_s = clock.monotonic_s()
        texts.append(drive.ask(chat()).text)
        spent.append(clock.monotonic_s() - before_s)
    assert spent[1] == pytest.approx(spent[0] * share)
    assert texts[0] == texts[1]


class Lagging(VirtualClock):
    """Oversleeps by a millisecond each time, as a busy machine does."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds + 0.001)


def test_oversleeping_does_not_add_up(small: str) -> None:
    clock = Lagging()
    engine = opened(small, clock)
    drive = Drive(engine)
    answer = drive.add(text("x", max_tokens=100, ignore_eos=True))
    begun_s = clock.monotonic_s()
    drive.until(lambda: answer.ended)
    due_s = sum(step_ms(LAW, 1 if i == 0 else 0, 1, 1 + i) for i in range(100)) / 1000
    assert clock.monotonic_s() - begun_s == pytest.approx(due_s + 0.001)
    assert engine.late_steps == 0


def test_a_late_worker_is_noticed_and_the_schedule_gives_way(small: str) -> None:
    clock = VirtualClock()
    engine = opened(small, clock)
    engine.add(text("x", max_tokens=10, ignore_eos=True))
    engine.step()
    clock.sleep(5.0)
    engine.step()
    assert engine.late_steps == 1
    before_s = clock.monotonic_s()
    engine.step()
    assert (clock.monotonic_s() - before_s) * 1000 == pytest.approx(step_ms(LAW, 0, 1, 3))


def test_idle_time_is_not_made_up_for(small: str) -> None:
    clock = VirtualClock()
    engine = opened(small, clock)
    Drive(engine).ask(chat(max_tokens=2))
    clock.sleep(100.0)
    before_s = clock.monotonic_s()
    engine.add(text("x", max_tokens=1))
    engine.step()
    assert (clock.monotonic_s() - before_s) * 1000 == pytest.approx(step_ms(LAW, 1, 1, 1))
    assert engine.late_steps == 0


def test_loading_takes_its_phases() -> None:
    clock = VirtualClock()
    engine = SimEngine(sim_spec("llama-8b-vllm-h100", sim_speed=1.0, max_batch=0), clock)
    card = engine.load(timed)
    assert clock.monotonic_s() == pytest.approx(sum(phase.seconds for phase in card.phases))
    assert card.max_batch == open_profile("llama-8b-vllm-h100").sweet_batch


def test_the_card_says_in_words_what_it_imitates() -> None:
    real, none = SimEngine(sim_spec("llama-8b-vllm-h100")).load(timed), SimEngine(sim_spec("instant")).load(timed)
    assert "Llama-3.1-8B-Instruct" in real.source
    assert "H100" in real.source
    assert none.source == "made-up text at the pace of the profile instant, which imitates no model"


# ---- the batch ----------------------------------------------------------------------------------


def test_a_long_prompt_is_read_in_pieces_beside_running_answers(small: str) -> None:
    drive = Drive(opened(small))
    running = drive.add(text("x", max_tokens=50, ignore_eos=True))
    drive.step()
    joined = drive.add(text("y" * 4 * 150, max_tokens=1))
    read = []
    while not joined.ended:
        before = running.tokens
        read.append(drive.step().prefill_tokens)
        assert running.tokens == before + 1, "reading must not hold up who writes"
    assert read == [63, 63, 24]


def test_no_more_than_max_batch_run(small: str) -> None:
    drive = Drive(opened(small))
    answers = [drive.add(text("x", max_tokens=10, ignore_eos=True)) for _ in range(9)]
    assert drive.step().running == 4
    assert drive.engine.stats().waiting == 5
    drive.finish()
    assert all(answer.tokens == 10 for answer in answers)


def test_full_kv_cache_sends_the_youngest_back(small: str) -> None:
    alone = [Drive(opened(small)).ask(sampled(i)).text for i in range(3)]
    engine = opened(small, kv_cache_bytes=2 * 420)
    drive = Drive(engine)
    answers = [drive.add(sampled(i)) for i in range(3)]
    sent_back = False
    running = 0
    while not all(answer.ended for answer in answers):
        step = drive.step()
        sent_back = sent_back or (step.running < running and not any(chunk.finish for chunk in step.chunks))
        running = step.running
        usage = engine.stats().kv_usage
        assert usage is not None
        assert usage <= 1
    assert sent_back
    assert [answer.text for answer in answers] == alone
    assert engine.stats().kv_bytes == 0


def sampled(seed: int) -> Any:
    return text("x" * 40, max_tokens=250, ignore_eos=True, temperature=1.0, seed=seed)


def test_context_limits(small: str) -> None:
    drive = Drive(opened(small))
    with pytest.raises(PromptTooLong) as caught:
        drive.add(text("x" * 1600))
    assert caught.value.param == "prompt"
    answer = drive.ask(text("x" * 1596, max_tokens=10))
    assert (answer.tokens, answer.finish) == (1, "length")


# ---- the words ----------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=8))
def test_text_depends_on_the_request_alone(plan: list[tuple[int, int, int]]) -> None:
    """Whoever else runs, whenever it came: the same request gives the same text."""
    drive = Drive(opened("starter-openvino-2core", sim_speed=0.0, max_batch=3))
    asked = []
    for seed, tokens, pause in plan:
        request = chat(temperature=1.0, seed=seed, max_tokens=tokens)
        asked.append((request, drive.add(request)))
        for _ in range(pause):
            drive.step()
    drive.finish()
    for request, answer in asked:
        again = msgspec.structs.replace(request, id="again")
        assert Drive(opened("instant", sim_speed=0.0)).ask(again).text == answer.text


def test_an_answer_goes_on_from_any_offset() -> None:
    request = chat(temperature=1.0, seed=9, max_tokens=60, ignore_eos=True)
    answer = Drive(opened("instant")).ask(request)
    key, draw = words.answer_keys(request, 9, 0)
    ranks = words.cached_thresholds(1.0, 1.0, 0, 0.0)
    rest = [words.VOCABULARY[words.token_at(key, draw, i, ranks)[0]] for i in range(37, 60)]
    assert answer.text.endswith("".join(rest))


def test_without_a_seed_answers_differ() -> None:
    drive = Drive(opened("instant"))
    assert len({drive.ask(chat(temperature=1.0)).text for _ in range(5)}) > 1


def test_other_prompts_other_words() -> None:
    drive = Drive(opened("instant"))
    assert drive.ask(chat("one")).text != drive.ask(chat("two")).text


def test_natural_ends_are_whole_sentences_of_many_lengths() -> None:
    drive = Drive(opened("instant"))
    answers = [drive.ask(chat(f"prompt {i}", max_tokens=None)) for i in range(20)]
    assert {answer.finish for answer in answers} == {"stop"}
    assert all(answer.tokens % words.SENTENCE_TOKENS == 0 for answer in answers)
    assert len({answer.tokens for answer in answers}) > 5


def test_vocabulary_is_one_of_words_that_are_told_apart() -> None:
    assert len(set(words.VOCABULARY)) == len(words.VOCABULARY)
    assert sum(math.exp(value) for value in words.LOGPROBS) == pytest.approx(0.98)


def test_banned_and_forced_words() -> None:
    drive = Drive(opened("instant"))
    request = chat(max_tokens=40, ignore_eos=True)
    written = drive.ask(request).text
    key, draw = words.answer_keys(request, 0, 0)
    ids = [words.token_at(key, draw, i, ())[0] for i in range(40)]
    without = drive.ask(chat(max_tokens=40, ignore_eos=True, logit_bias=dict.fromkeys(ids, -100.0))).text
    assert not set(without.split()) & set(written.split()) - {"."}
    forced = drive.ask(chat(max_tokens=3, ignore_eos=True, logit_bias={ids[1]: 100.0})).text
    assert forced == words.VOCABULARY[ids[1]] * 3


def test_penalties_bring_variety() -> None:
    drive = Drive(opened("instant"))
    plain = drive.ask(chat(max_tokens=200, ignore_eos=True)).text.split()
    varied = drive.ask(chat(max_tokens=200, ignore_eos=True, frequency_penalty=2.0)).text.split()
    assert len(set(varied)) > len(set(plain))


def test_embeddings_are_unit_vectors() -> None:
    vectors, _ = opened("instant").embed(["a", "b"])
    assert all(sum(x * x for x in vector) == pytest.approx(1.0) for vector in vectors)


def test_a_tool_that_is_named_gets_called() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = ({"type": "function", "function": {"name": "weather", "parameters": schema}},)
    drive = Drive(opened("instant"))
    written = drive.ask(chat("call weather for me", tools=tools, max_tokens=None)).text
    call = json.loads(written.removeprefix("<tool_call>").removesuffix("</tool_call>"))
    assert call["name"] == "weather"
    jsonschema.validate(call["arguments"], schema)
    assert "<tool_call>" not in drive.ask(chat("hello", tools=tools)).text


# ---- schemas ------------------------------------------------------------------------------------

_leaves = st.one_of(
    st.sampled_from(
        [{"type": "null"}, {"type": "boolean"}, {"type": "string"}, {"enum": ["a", 1, None]}, {"const": [1]}]
    ),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-99, 99),
        st.integers(0, 9),
    ),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low}, st.integers(-9, 9)),
    st.builds(lambda by: {"type": "integer", "multipleOf": by, "minimum": 1}, st.integers(1, 9)),
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.builds(lambda name: {"type": "string", "format": name}, st.sampled_from(["date", "uuid", "email", "date-time"])),
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
    return st.one_of(
        st.builds(
            lambda properties, closed: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties),
                **({"additionalProperties": False} if closed else {}),
            },
            fields,
            st.booleans(),
        ),
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda properties: {"allOf": [{"type": "object", "properties": properties}, {"required": ["a"]}]}, fields
        ),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(_leaves, _nested, max_leaves=8))
def test_instances_satisfy_their_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(instance(schema), schema)


RECURSIVE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
}
UNION = {
    "oneOf": [
        {"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]},
        {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]},
    ]
}


@pytest.mark.parametrize("schema", [RECURSIVE, UNION, {"type": ["string", "null"]}, {"allOf": [{"minimum": 3}]}, {}])
def test_schemas_by_hand(schema: dict[str, Any]) -> None:
    jsonschema.validate(instance(schema), schema)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string", "pattern": "^a"}, "pattern"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "nonsense"}, "nonsense"),
        ({"$ref": "https://example.org/x"}, "outside"),
        ({"$ref": "#/$defs/none"}, "isn't there"),
        ({"$ref": "#"}, "small"),
        ({"type": "array", "minItems": 10**9}, "small"),
        ({"type": "string", "minLength": 10**9}, "limits"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "limits"),
        ({"type": "integer", "multipleOf": 0, "minimum": 1}, "malformed"),
        ({"type": "object", "required": 7}, "malformed"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "'a'"),
        ({"type": "number", "multipleOf": 0.1, "minimum": 1}, "limits"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "small"),
        ({"enum": []}, "enum"),
    ],
)
def test_schemas_it_refuses(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        instance(schema)
    assert caught.value.param == "json_schema"
    assert said in caught.value.why


def test_a_refused_schema_adds_nothing() -> None:
    engine = opened("instant")
    with pytest.raises(InvalidRequest) as caught:
        engine.add(chat(json_schema={"type": "string", "pattern": "^a"}))
    assert caught.value.param == "json_schema"
    assert engine.stats().waiting == 0


# ---- dials --------------------------------------------------------------------------------------


def test_dials_are_read() -> None:
    assert parse_faults("") == Faults()
    assert parse_faults(" slow=2.5, oom_at=64,load_fail=1 ") == Faults(slow=2.5, oom_at=64, load_fail=1)


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ("slows=2", "'slow'"),
        ("crash=1", "crash_after"),
        ("oom_at=many", "whole number"),
        ("oom_at=1.5", "whole"),
        ("slow=0", "over 0"),
    ],
)
def test_wrong_dials_are_named(dials: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimEngine(sim_spec(sim_faults=dials))
    assert said in str(caught.value)


def test_unknown_profile() -> None:
    with pytest.raises(ConfigError, match="starter"):
        SimEngine(sim_spec("starter-openvino-3core"))


def test_slow(small: str) -> None:
    clock = VirtualClock()
    engine = opened(small, clock, sim_faults="slow=3")
    engine.add(text("x", max_tokens=2))
    before_s = clock.monotonic_s()
    engine.step()
    assert (clock.monotonic_s() - before_s) * 1000 == pytest.approx(3 * step_ms(LAW, 1, 1, 1))


def test_out_of_memory_at_a_batch(small: str) -> None:
    engine = opened(small, sim_faults="oom_at=3")
    for _ in range(2):
        engine.add(text("x"))
    engine.step()
    engine.add(text("x"))
    with pytest.raises(MemoryError, match="oom_at=3"):
        engine.step()


def test_load_fails() -> None:
    with pytest.raises(ModelError, match="load_fail"):
        opened("instant", sim_faults="load_fail=1")


def test_every_third_answer_fails() -> None:
    drive = Drive(opened("instant", sim_faults="fail_every=3"))
    answers = [drive.ask(chat(max_tokens=20)) for _ in range(6)]
    assert [answer.finish == "error" for answer in answers] == [False, False, True] * 2
    assert answers[2].tokens == 4
    assert answers[2].failure is not None
    assert from_failure(answers[2].failure).status == 500


WORKER = """
import sys
from contextlib import nullcontext
from freehold.core import Request, Sampling
from freehold.engine.base import EngineSpec
from freehold.engine.sim.engine import SimEngine
from freehold.model.source import Source
source = Source(kind="sim", path="instant", label="", name="sim")
engine = SimEngine(EngineSpec(engine="sim", source=source, name="sim", cache_dir="", sim_faults=sys.argv[1]))
engine.load(lambda *_: nullcontext())
engine.add(Request(id="a", model="sim", kind="text", prompt="x", sampling=Sampling(max_tokens=100, ignore_eos=True)))
for step in range(100):
    print(len(engine.step().chunks), flush=True)
"""


def test_crash_kills_the_process() -> None:
    run = subprocess.run([sys.executable, "-c", WORKER, "crash_after=5"], capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL
    assert run.stdout.split() == [b"1"] * 5


def test_stuck_hangs_the_process() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER, "stuck_after=5"], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert [run.stdout.readline() for _ in range(5)] == [b"1\n"] * 5
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(0.3)
        run.kill()
