"""Tool calls: what a client may offer, what the model is told, and how an answer becomes calls again.

With `tool_choice` auto the model writes calls in its own markup, which `ToolSplitter` finds in the text.
With required or a named function the answer is held to a JSON schema, whatever the model was trained on,
and `ForcedSplitter` reads that JSON. A model whose template knows no tools can only do the second: its
prompt stays what the client wrote (no hidden system message), the schema alone names the functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, cast

import msgspec

from freehold.core import Json, ModelCard, Record
from freehold.errors import InvalidRequest, UnsupportedParameter
from freehold.gateway.tools.forced import ForcedSplitter
from freehold.gateway.tools.schema import Function, call_schema, check_depth
from freehold.gateway.tools.split import CallIds, Splitter, ToolSplitter

MAX_TOOLS = 128
Functions = tuple[Function, ...]

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


class Choice(Record, frozen=True):
    """What `tool_choice` asks for; `name` is set for one named function."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None


class Plan(Record, frozen=True):
    """How one request treats its tools."""

    tools: tuple[Json, ...] = ()
    """For the chat template, in OpenAI's chat shape."""
    json_schema: Json | None = None
    """Set when the answer must be a call."""
    style: Literal["off", "forced", "hermes", "llama3", "mistral"] = "off"
    offered: dict[str, Json | None] = {}
    """Name of each function, with the schema of its arguments if they must keep it."""
    single: bool = False
    """At most one call: what follows the first is dropped (`parallel_tool_calls: false`)."""

    def splitter(self, answer_id: str) -> Splitter | None:
        """A fresh splitter for one answer, or None when the answer is all content. The calls' ids follow
        from `answer_id`, so that an answer read again later has the same ones."""
        ids = CallIds(answer_id, short=self.style == "mistral")
        if self.style == "off":
            return None
        if self.style == "forced":
            return ForcedSplitter(ids)
        return ToolSplitter(self.style, self.offered, ids, self.single)


NO_TOOLS = Plan()


def functions_from(tools: Sequence[Json], *, nested: bool) -> Functions:
    """The checked functions of a request. `nested` is the chat shape (`{"type", "function": {...}}`), else
    the flat one of the Responses API. Raises `InvalidRequest` naming the field."""
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"{len(tools)} tools are too many.", f"At most {MAX_TOOLS} can be offered.", param="tools")
    functions = tuple(_function(tool, f"tools[{i}]", nested) for i, tool in enumerate(tools))
    seen: set[str] = set()
    for i, function in enumerate(functions):
        if function.name in seen:
            raise InvalidRequest(
                f"Two tools are called {function.name!r}.",
                "A call could mean either.",
                "Give each its own name.",
                param=f"tools[{i}].function.name" if nested else f"tools[{i}].name",
            )
        seen.add(function.name)
    return functions


def _function(tool: Json, path: str, nested: bool) -> Function:
    if tool.get("type") != "function":
        raise UnsupportedParameter(
            f"Tools of type {tool.get('type')!r} aren't offered here.",
            next="Use tools of type 'function' and run them in the client.",
            param=f"{path}.type",
        )
    body = tool.get("function") if nested else tool
    if nested:
        path += ".function"
    if not isinstance(body, dict):
        raise InvalidRequest("A tool needs an object that describes its function.", param=path)
    known = {"name", "description", "parameters", "strict"} | (set() if nested else {"type"})
    for key in body:
        if key not in known:
            raise InvalidRequest(f"Unknown field {key!r} in a function.", param=f"{path}.{key}")
    name = body.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequest(
            "A function needs a name.", "1 to 64 letters, digits, underscores, dots or dashes.", param=f"{path}.name"
        )
    description = body.get("description")
    if not isinstance(description, str | None):
        raise InvalidRequest("The description of a function is text.", param=f"{path}.description")
    strict = body.get("strict")
    if not isinstance(strict, bool | None):
        raise InvalidRequest("strict is true or false.", param=f"{path}.strict")
    parameters = _parameters(body.get("parameters"), f"{path}.parameters")
    return Function(name=name, description=description or "", parameters=parameters, strict=bool(strict))


def _parameters(schema: object, path: str) -> Json:
    if schema is None:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        raise InvalidRequest("The parameters of a function are a JSON schema.", param=path)
    schema = cast(Json, schema)
    if schema.get("type", "object") != "object":
        raise InvalidRequest(
            "The parameters of a function are a JSON schema of type 'object'.",
            f"The type is {schema['type']!r}.",
            param=f"{path}.type",
        )
    check_depth(schema, path)
    return schema


def choice_from(value: object, functions: Functions, *, nested: bool) -> tuple[Choice, Functions]:
    """What `tool_choice` asks for, and the functions it leaves. `nested` as in `functions_from`."""
    if value is None:
        return Choice(mode="auto" if functions else "none"), functions
    if value == "none" or value == "auto" or value == "required":
        if value == "required" and not functions:
            raise InvalidRequest("tool_choice is 'required' but there are no tools.", param="tool_choice")
        return Choice(mode=value), functions
    if isinstance(value, dict) and value.get("type") == "function":
        return Choice(mode="required", name=_offered(_named(value, nested), functions, "tool_choice")), functions
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        return _allowed(value.get("allowed_tools") if nested else value, functions, nested)
    raise InvalidRequest(
        "tool_choice isn't understood.",
        next="Use 'none', 'auto', 'required', or {'type': 'function', ...} with the name of one tool.",
        param="tool_choice",
    )


def _named(value: object, nested: bool) -> object:
    body = value.get("function") if nested and isinstance(value, dict) else value
    return body.get("name") if isinstance(body, dict) else None


def _offered(name: object, functions: Functions, param: str) -> str:
    for function in functions:
        if function.name == name:
            return function.name
    names = ", ".join(function.name for function in functions) or "none"
    raise InvalidRequest(f"tool_choice names {name!r}, which isn't among the tools.", f"Offered: {names}.", param=param)


def _allowed(body: object, functions: Functions, nested: bool) -> tuple[Choice, Functions]:
    listed = body.get("tools") if isinstance(body, dict) else None
    mode = body.get("mode") if isinstance(body, dict) else None
    if mode not in ("auto", "required") or not isinstance(listed, list) or not listed:
        raise InvalidRequest(
            "allowed_tools isn't understood.",
            "It needs a mode ('auto' or 'required') and a list of tools.",
            param="tool_choice",
        )
    names = [_offered(_named(tool, nested), functions, "tool_choice.tools") for tool in listed]
    return Choice(mode=mode), tuple(f for f in functions if f.name in names)


def plan(functions: Functions, choice: Choice, card: ModelCard, *, parallel: bool, structured: bool) -> Plan:
    """Decide how tools are given to this model. `structured`: the client also wants the content to satisfy a
    schema. Raises `UnsupportedParameter` where the model or engine can't do what is asked."""
    if choice.mode == "none" or not functions:
        return NO_TOOLS
    shown = tuple(_for_template(function) for function in functions) if card.tools != "none" else ()
    if choice.mode == "required":
        if "json_schema" in card.unsupported:
            raise UnsupportedParameter(
                f"The engine {card.engine!r} can't force a tool call.",
                "It has no JSON-schema output.",
                "Use tool_choice 'auto'.",
                param="tool_choice",
            )
        wanted = tuple(f for f in functions if choice.name in (None, f.name))
        return Plan(tools=shown, json_schema=call_schema(wanted), style="forced")
    if card.tools == "none":
        raise UnsupportedParameter(
            f"The model {card.name!r} wasn't taught to use tools.",
            "Its chat template has no place for them.",
            "Use tool_choice 'required' or name one function; then the answer is held to its schema.",
            param="tools",
        )
    if structured:
        raise UnsupportedParameter(
            "Tools can't be offered together with a JSON format of the answer.",
            "One schema holds the whole answer, so the model could never call.",
            "Drop one of them, or set tool_choice to 'none' or 'required'.",
            param="tools",
        )
    offered = {f.name: f.parameters if f.strict else None for f in functions}
    return Plan(tools=shown, style=card.tools, offered=offered, single=not parallel)


def _for_template(function: Function) -> Json:
    body: Json = {"name": function.name, "description": function.description, "parameters": function.parameters}
    return {"type": "function", "function": body}


def template_call(id: str, name: str, arguments: str) -> Json:
    """A call of the conversation so far, as chat templates know it: arguments as an object where they are one."""
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        decoded = arguments
    shown = decoded if isinstance(decoded, dict) else arguments
    return {"id": id, "type": "function", "function": {"name": name, "arguments": shown}}
