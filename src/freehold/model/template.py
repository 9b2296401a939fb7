"""A model's chat template: messages in, the prompt's text out. Jinja in a sandbox, with Hugging Face's customs.

The template is a stranger's program: it runs immutable and sandboxed, and its errors become the request's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from freehold.core import Json
from freehold.errors import InvalidRequest, ModelError

ToolStyle = Literal["none", "hermes", "llama3", "mistral"]

TEMPLATE_FAULTS = (TypeError, ValueError, AttributeError, ArithmeticError, LookupError, RecursionError, MemoryError)
"""What Python raises when a template does to a message what can't be done."""
MAX_PROMPT_CHARS = 64 << 20
"""A template that writes more than this is running away."""


class ChatTemplate:
    """A parsed template with the model's bos and eos spellings."""

    def __init__(self, source_text: str, bos: str = "", eos: str = "") -> None:
        """Raises `ModelError` when the template doesn't parse."""
        self.source_text = source_text
        self.tools = tool_style(source_text)
        self._fixed = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = _environment().from_string(source_text)
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                "The model's chat template doesn't parse.",
                f"Line {error.lineno}: {error.message}.",
                "Give a corrected one with --set model.chat_template=FILE.",
            ) from error

    def render(
        self,
        messages: Sequence[Json],
        tools: Sequence[Json] = (),
        kwargs: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt. Tokenise it *without* adding bos: templates write their own.

        `messages` are OpenAI-shaped; the arguments of tool calls, JSON text there, are given parsed. `kwargs`
        are extra variables. Raises `InvalidRequest` with the template's own words (roles must alternate).
        """
        variables: dict[str, Any] = {
            **self._fixed,
            **(kwargs or {}),
            "messages": [_with_parsed_arguments(message) for message in messages],
            "tools": list(tools) or None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return self._render(variables)
        except jinja2.TemplateError as error:
            raise InvalidRequest(
                "The model's chat template refuses these messages.",
                f"It says: {str(error.message).rstrip('.')}.",
                param="messages",
            ) from error
        except TEMPLATE_FAULTS as error:
            raise InvalidRequest(
                "The model's chat template can't be applied to these messages.",
                f"{type(error).__name__}: {str(error).rstrip('.')}.",
                "Check that each message has a role and content.",
                param="messages",
            ) from error

    def _render(self, variables: Mapping[str, Any]) -> str:
        parts, size = [], 0
        for part in self._template.generate(variables):
            size += len(part)
            if size > MAX_PROMPT_CHARS:
                raise ValueError(f"it wrote over {MAX_PROMPT_CHARS:,} characters")
            parts.append(part)
        return "".join(parts)


def tool_style(template_text: str) -> ToolStyle:
    """How a model with this template writes a tool call (`ModelCard.tools`)."""
    if "[TOOL_CALLS]" in template_text:
        return "mistral"
    if "<tool_call>" in template_text:
        return "hermes"
    if "tools" in template_text and ('"parameters": ' in template_text or "<|python_tag|>" in template_text):
        return "llama3"
    return "none"


def _with_parsed_arguments(message: Json) -> Json:
    calls = message.get("tool_calls")
    if not isinstance(calls, list | tuple) or not calls:
        return message
    return {**message, "tool_calls": [_parsed_call(call) for call in calls]}


def _parsed_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        return call  # the model wrote it so; templates can print text too
    return {**call, "function": {**function, "arguments": arguments}}


class _Generation(Extension):
    """`{% generation %}`: marks the assistant's part for training; here only its content counts."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_as_is"), [], [], body).set_lineno(line)

    def _as_is(self, caller: Any) -> Any:
        return caller()


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], autoescape=False
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes HTML; a prompt isn't HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().astimezone().strftime(format)
