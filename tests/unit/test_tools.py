"""What may be offered as a tool, how a choice becomes a schema, and how an answer becomes calls, however it is cut."""

import itertools
import json

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from freehold.core import Json, ModelCard
from freehold.errors import InvalidRequest, UnsupportedParameter
from freehold.gateway.tools.forced import ForcedSplitter
from freehold.gateway.tools.plan import Choice, choice_from, functions_from, plan
from freehold.gateway.tools.schema import Function, call_schema, satisfies
from freehold.gateway.tools.split import (
    CallArguments,
    CallIds,
    CallStart,
    Part,
    Splitter,
    Text,
    ToolCall,
    ToolSplitter,
    split,
)

WEATHER: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
OFFERED: dict[str, Json | None] = {"weather": None, "time": None, "a": None, "x</tool_call>": None}
IDS = CallIds("chatcmpl-1/0")


def card(**fields: object) -> ModelCard:
    base: Json = {"name": "m", "engine": "sim", "source": "test", "context_tokens": 100, "max_batch": 1}
    return ModelCard(**(base | fields))


def splitter(style: str, single: bool = False, offered: dict[str, Json | None] = OFFERED) -> Splitter:
    if style == "forced":
        return ForcedSplitter(IDS)
    return ToolSplitter(style, offered, IDS, single)


def calls(style: str, text: str, **options: bool) -> tuple[str, list[tuple[str, str]]]:
    content, found = split(splitter(style, **options), text)
    return content, [(call.name, call.arguments) for call in found]


ONE = '{"name": "weather", "arguments": {"city": "Bonn"}}'
TWO = '{"name": "time", "parameters": {}}'


@pytest.mark.parametrize(
    ("style", "text", "content", "found"),
    [
        ("hermes", "Hello there", "Hello there", []),
        ("hermes", "  spaced \n", "  spaced \n", []),
        ("hermes", f"<tool_call>\n{ONE}\n</tool_call>", "", [("weather", '{"city": "Bonn"}')]),
        ("hermes", f"Let me look.\n<tool_call>{ONE}</tool_call>", "Let me look.", [("weather", '{"city": "Bonn"}')]),
        (
            "hermes",
            f"<tool_call>{ONE}</tool_call>\n<tool_call>{TWO}</tool_call>\n",
            "",
            [("weather", '{"city": "Bonn"}'), ("time", "{}")],
        ),
        ("hermes", f"<tool_call>{ONE}</tool_call>\nDone.", "Done.", [("weather", '{"city": "Bonn"}')]),
        ("hermes", f"<tool_call>{ONE}", "", [("weather", '{"city": "Bonn"}')]),
        (
            "hermes",
            '<tool_call>{"name": "x</tool_call>", "arguments": {"a": "\\"}"}}</tool_call>',
            "",
            [("x</tool_call>", '{"a": "\\"}"}')],
        ),
        ("hermes", '<tool_call>{"name": "a", "arguments": "{\\"b\\": 1}"}</tool_call>', "", [("a", '{"b": 1}')]),
        ("hermes", '<tool_call>{"name": "b", "arguments": {}}', '<tool_call>{"name": "b", "arguments": {}}', []),
        ("mistral", "[TOOL_CALLS]b[ARGS]{}", "[TOOL_CALLS]b[ARGS]{}", []),
        ("hermes", "a <tool_cal b", "a <tool_cal b", []),
        ("hermes", "<tool_call>not json</tool_call>", "<tool_call>not json</tool_call>", []),
        ("hermes", "x <tool_call> {'name': 1}", "x <tool_call> {'name': 1}", []),
        (
            "hermes",
            f"<tool_call>{{'bad'}} <tool_call>{ONE}</tool_call>",
            "<tool_call>{'bad'}",
            [("weather", '{"city": "Bonn"}')],
        ),
        ("hermes", '<tool_call>{"name": "cut", "argum', '<tool_call>{"name": "cut", "argum', []),
        (
            "hermes",
            '<tool_call>{"name": "a", "arguments": [1]}</tool_call>',
            '<tool_call>{"name": "a", "arguments": [1]}</tool_call>',
            [],
        ),
        (
            "hermes",
            '<tool_call>{"name": "a", "arguments": {"x": NaN}}',
            '<tool_call>{"name": "a", "arguments": {"x": NaN}}',
            [],
        ),
        ("llama3", '{"name": "weather", "parameters": {"city": "Bonn"}}', "", [("weather", '{"city": "Bonn"}')]),
        ("llama3", f" {ONE}; {TWO}", "", [("weather", '{"city": "Bonn"}'), ("time", "{}")]),
        ("llama3", f"<|python_tag|>{ONE}", "", [("weather", '{"city": "Bonn"}')]),
        ("llama3", '{"name": "Ann", "age": 3}', '{"name": "Ann", "age": 3}', []),
        ("llama3", f"See {ONE}", f"See {ONE}", []),
        ("mistral", f"[TOOL_CALLS][{ONE}, {TWO}]", "", [("weather", '{"city": "Bonn"}'), ("time", "{}")]),
        ("mistral", f"[TOOL_CALLS] [{ONE}]", "", [("weather", '{"city": "Bonn"}')]),
        ("mistral", f"[{ONE}]", "", [("weather", '{"city": "Bonn"}')]),
        (
            "mistral",
            '[TOOL_CALLS]weather[ARGS]{"city": "Bonn"}[TOOL_CALLS]time[CALL_ID]a1[ARGS]{}',
            "",
            [("weather", '{"city": "Bonn"}'), ("time", "{}")],
        ),
        ("mistral", "[1] a source", "[1] a source", []),
        ("mistral", "[TOOL_CALLS]nothing of use", "[TOOL_CALLS]nothing of use", []),
        ("forced", ONE, "", [("weather", '{"city": "Bonn"}')]),
        ("forced", ' {\n "name" : "time",\n "arguments": {"a": {"b": "}"}} }\n', "", [("time", '{"a": {"b": "}"}}')]),
        ("forced", '{"arguments": {}, "name": "time"}', "", [("time", "{}")]),
        ("forced", '{"name": "time", "arguments": {"a": "cu', "", [("time", '{"a": "cu')]),
        ("forced", "no call at all", "no call at all", []),
    ],
)
def test_an_answer_is_split_into_content_and_calls(
    style: str, text: str, content: str, found: list[tuple[str, str]]
) -> None:
    assert calls(style, text) == (content, found)


def test_without_parallel_calls_the_first_is_the_only_one() -> None:
    text = f"Look: <tool_call>{ONE}</tool_call><tool_call>{TWO}</tool_call> and more"
    assert calls("hermes", text, single=True) == ("Look:", [("weather", '{"city": "Bonn"}')])
    assert calls("mistral", f"[TOOL_CALLS][{ONE}, {TWO}]", single=True) == ("", [("weather", '{"city": "Bonn"}')])


def test_text_passes_at_once_and_only_a_possible_marker_waits() -> None:
    hermes = splitter("hermes")
    assert hermes.feed("Hello") == [Text("Hello")]
    assert hermes.feed(" wor") == [Text(" wor")]
    assert hermes.feed("ld\n<tool") == [Text("ld")]
    assert hermes.feed("box>") == [Text("\n<toolbox>")]
    assert hermes.close() == []


def test_forced_arguments_stream_while_they_are_written() -> None:
    forced = splitter("forced")
    assert forced.feed('{"name": "time", "argu') == []
    assert forced.feed('ments": {"a"') == [CallStart(0, IDS(0), "time"), CallArguments(0, '{"a"')]
    assert forced.feed(": 1}") == [CallArguments(0, ": 1}")]
    assert forced.feed("}") == []
    assert forced.close() == []


def test_a_strict_function_never_gets_arguments_that_break_its_schema() -> None:
    offered: dict[str, Json | None] = {"weather": WEATHER}
    good = '<tool_call>{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}</tool_call>'
    bad = '<tool_call>{"name": "weather", "arguments": {"town": "Bonn"}}</tool_call>'
    assert split(splitter("hermes", offered=offered), good)[1][0].arguments == '{"city": "Bonn", "days": 2}'
    assert split(splitter("hermes", offered=offered), bad) == (bad, [])
    endless: dict[str, Json | None] = {"weather": {"$ref": "#"}}
    assert split(splitter("hermes", offered=endless), bad) == (bad, [])


FRAGMENTS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "<|python_tag|>",
        ";",
        "[",
        "]",
        "{",
        "}",
        '"',
        "\\",
        " ",
        "\n",
        "[ARGS]",
        "weather",
        "text",
        "<",
        "tool_call>",
        ONE,
        TWO,
        f"[{ONE}]",
        '{"name": "x"',
        '{"a": "\\"',
        "é",
        "{'",
        ", ",
    ]
)


@given(
    style=st.sampled_from(["hermes", "llama3", "mistral", "forced"]),
    pieces=st.lists(FRAGMENTS, max_size=12),
    cuts=st.lists(st.integers(0, 300), max_size=12),
    single=st.booleans(),
)
def test_any_cut_of_the_text_gives_the_same(style: str, pieces: list[str], cuts: list[int], single: bool) -> None:
    text = "".join(pieces)
    whole = split(splitter(style, single), text)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    cut_up = splitter(style, single)
    parts: list[Part] = []
    for start, end in itertools.pairwise(places):
        parts += cut_up.feed(text[start:end])
    parts += cut_up.close()
    assert joined(parts) == whole
    if not whole[1]:
        assert whole[0] == text
    assert cut_up.calls == len(whole[1])


def joined(parts: list[Part]) -> tuple[str, list[ToolCall]]:
    content = "".join(part.text for part in parts if isinstance(part, Text))
    found: list[ToolCall] = []
    for part in parts:
        if isinstance(part, CallStart):
            assert part.index == len(found)
            arguments = "".join(p.delta for p in parts if isinstance(p, CallArguments) and p.index == part.index)
            found.append(ToolCall(part.id, part.name, arguments))
    return content, found


def test_ids_follow_from_the_answer_and_suit_the_template() -> None:
    assert CallIds("a")(0) == CallIds("a")(0) != CallIds("a")(1)
    assert CallIds("a")(0) != CallIds("b")(0)
    assert len(CallIds("a", short=True)(0)) == 9


def tool(**fields: object) -> Json:
    return {"type": "function", "function": {"name": "weather", "parameters": WEATHER} | fields}


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "web_search"}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([tool(), tool(name="bad name")], "tools[1].function.name"),
        ([tool(name=None)], "tools[0].function.name"),
        ([tool(description=5)], "tools[0].function.description"),
        ([tool(strict="yes")], "tools[0].function.strict"),
        ([tool(parameters=[])], "tools[0].function.parameters"),
        ([tool(parameters={"type": "array"})], "tools[0].function.parameters.type"),
        ([tool(kind="x")], "tools[0].function.kind"),
        ([tool(), tool()], "tools[1].function.name"),
        ([tool(name=f"f{i}") for i in range(129)], "tools"),
    ],
)
def test_a_bad_tool_is_refused_by_name(tools: list[Json], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        functions_from(tools, nested=True)
    assert caught.value.param == param


def test_a_schema_without_end_is_refused() -> None:
    deep: Json = {}
    for _ in range(60):
        deep = {"properties": {"a": deep}}
    with pytest.raises(InvalidRequest, match="too deep"):
        functions_from([tool(parameters=deep)], nested=True)


def test_the_flat_shape_of_responses() -> None:
    flat = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True, "description": "d"}
    assert functions_from([flat], nested=False) == (
        Function(name="weather", parameters=WEATHER, strict=True, description="d"),
    )
    with pytest.raises(InvalidRequest) as caught:
        functions_from([flat | {"name": "ö"}], nested=False)
    assert caught.value.param == "tools[0].name"


WEATHER_AND_TIME = (Function(name="weather", parameters=WEATHER), Function(name="time", parameters={"type": "object"}))


def test_choices() -> None:
    assert choice_from(None, WEATHER_AND_TIME, nested=True)[0] == Choice(mode="auto")
    assert choice_from(None, (), nested=True)[0] == Choice(mode="none")
    assert choice_from("required", WEATHER_AND_TIME, nested=True)[0].mode == "required"
    named = {"type": "function", "function": {"name": "time"}}
    assert choice_from(named, WEATHER_AND_TIME, nested=True)[0] == Choice(mode="required", name="time")
    flat = {"type": "function", "name": "time"}
    assert choice_from(flat, WEATHER_AND_TIME, nested=False)[0] == Choice(mode="required", name="time")
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [flat]}
    assert choice_from(allowed, WEATHER_AND_TIME, nested=False) == (Choice(mode="auto"), WEATHER_AND_TIME[1:])


@pytest.mark.parametrize(
    "value", ["sometimes", 3, [], {"type": "function", "function": {"name": "no"}}, {"type": "allowed_tools"}]
)
def test_a_bad_choice_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choice_from(value, WEATHER_AND_TIME, nested=True)
    assert caught.value.param == "tool_choice"


def test_required_without_tools_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        choice_from("required", (), nested=True)


def test_auto_gives_the_template_its_tools() -> None:
    made = plan(WEATHER_AND_TIME, Choice(), card(tools="hermes"), parallel=True, structured=False)
    assert [shown["function"]["name"] for shown in made.tools] == ["weather", "time"]
    assert (made.style, made.json_schema, made.single) == ("hermes", None, False)
    assert isinstance(made.splitter("id"), ToolSplitter)


def test_none_hides_the_tools() -> None:
    made = plan(WEATHER_AND_TIME, Choice(mode="none"), card(tools="hermes"), parallel=True, structured=True)
    assert made.tools == ()
    assert made.splitter("id") is None


def test_required_works_by_schema_even_where_the_template_knows_no_tools() -> None:
    made = plan(WEATHER_AND_TIME, Choice(mode="required"), card(), parallel=True, structured=False)
    assert made.tools == ()
    assert isinstance(made.splitter("id"), ForcedSplitter)
    assert made.json_schema is not None
    jsonschema.validate({"name": "time", "arguments": {}}, made.json_schema)
    jsonschema.validate({"name": "weather", "arguments": {"city": "Bonn"}}, made.json_schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "weather", "arguments": {}}, made.json_schema)
    named = plan(WEATHER_AND_TIME, Choice(mode="required", name="time"), card(), parallel=True, structured=False)
    assert named.json_schema is not None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "weather", "arguments": {"city": "Bonn"}}, named.json_schema)


@pytest.mark.parametrize(
    ("choice", "fields", "structured", "param"),
    [
        (Choice(), {}, False, "tools"),
        (Choice(mode="required"), {"unsupported": ("json_schema",)}, False, "tool_choice"),
        (Choice(), {"tools": "hermes"}, True, "tools"),
    ],
)
def test_what_a_model_cannot_do_is_refused(choice: Choice, fields: Json, structured: bool, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        plan(WEATHER_AND_TIME, choice, card(**fields), parallel=True, structured=structured)
    assert caught.value.param == param


TREE: Json = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}, "again": {"$ref": "#"}},
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}},
}
LIST: Json = {
    "type": "object",
    "properties": {"node": {"$ref": "#/$defs/node"}},
    "$defs": {"node": {"type": "integer"}},
}


def test_definitions_of_several_functions_do_not_mix() -> None:
    schema = call_schema([Function(name="a", parameters=TREE), Function(name="b", parameters=LIST)])
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"name": "b", "arguments": {"node": 3}})
    assert not validator.is_valid({"name": "b", "arguments": {"node": {"next": 1}}})
    assert validator.is_valid({"name": "a", "arguments": {"again": {"again": {}}}})
    assert not validator.is_valid({"name": "a", "arguments": {"again": {"again": {"root": 3}}}})
    assert not validator.is_valid({"name": "a", "arguments": {"root": {}}})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]) | st.just(1.5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["city", "days", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
SCHEMAS: list[Json] = [
    WEATHER,
    LIST,
    {"anyOf": [{"type": "integer"}, {"type": ["string", "null"]}]},
    {"type": "array", "items": {"enum": [1, "a", None]}},
    {"type": "object", "additionalProperties": {"type": "number"}},
    {"const": "a"},
    {"allOf": [{"type": "object"}, {"required": ["x"]}]},
    {"type": "integer"},
]


@given(value=VALUES, schema=st.sampled_from(SCHEMAS))
@example(value=[True], schema=SCHEMAS[3])
def test_the_schema_check_agrees_with_the_reference(value: object, schema: Json) -> None:
    text = json.dumps(value)
    assert satisfies(json.loads(text), schema, schema) == jsonschema.Draft202012Validator(schema).is_valid(
        json.loads(text)
    )
