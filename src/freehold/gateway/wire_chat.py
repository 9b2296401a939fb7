"""The body of POST /v1/chat/completions: every field OpenAI has, honoured or refused by name, and the extensions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from freehold.core import Json, ModelCard, Request
from freehold.errors import InvalidRequest, UnsupportedParameter
from freehold.gateway.call import Call, new_id
from freehold.gateway.limits import check_against, storable
from freehold.gateway.tools import plan as toolbox
from freehold.gateway.tools.schema import check_depth
from freehold.gateway.wire import ModelName, Refused, SamplingFields, StreamOptions, Wire, free_form
from freehold.settings import ServerConfig

Name = Annotated[str, Field(min_length=1, max_length=64)]


class TextPart(Wire):
    type: Literal["text"]
    text: str


class RefusalPart(Wire):
    type: Literal["refusal"]
    refusal: str


Text = str | Annotated[list[TextPart], Field(min_length=1)]


class SystemMessage(Wire):
    role: Literal["system", "developer"]
    content: Text
    name: Name | None = None


class UserMessage(Wire):
    role: Literal["user"]
    content: Text
    name: Name | None = None


class CalledFunction(Wire):
    name: Name
    arguments: str = Field(description="The arguments as JSON text.")


class ToolCall(Wire):
    id: str = Field(min_length=1, max_length=128)
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None


class AssistantMessage(Wire):
    role: Literal["assistant"]
    content: str | Annotated[list[TextPart | RefusalPart], Field(min_length=1)] | None = None
    name: Name | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: Refused = None
    function_call: Refused = None


class ToolMessage(Wire):
    role: Literal["tool"]
    content: Text
    tool_call_id: str = Field(min_length=1, max_length=128)


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class JsonSchemaFormat(Wire):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = Field(None, description="The schema is always enforced, strict or not.")


class TextFormat(Wire):
    type: Literal["text"]


class JsonObjectFormat(Wire):
    type: Literal["json_object"]


class SchemaFormat(Wire):
    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | SchemaFormat, Field(discriminator="type")]


class ChatRequest(SamplingFields):
    """A conversation to go on with."""

    messages: list[Message] = Field(min_length=1, max_length=4096)
    model: ModelName | None = None
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31 - 1, description="The newer name of max_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="Extension. Variables for the chat template.")
    user: str | None = Field(None, max_length=512, description="Kept with the request in the ledger.")
    safety_identifier: str | None = Field(None, max_length=128, description="Kept with the request in the ledger.")
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = Field(
        None, description="Comes back in the answer."
    )
    store: Literal[False] | None = Field(None, description="Chat completions are not stored; POST /v1/responses does.")
    service_tier: Literal["auto", "default"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    prompt_cache_key: str | None = Field(
        None, max_length=512, description="A hint; equal prefixes share a cache here without it."
    )
    audio: Refused = None
    function_call: Refused = None
    functions: Refused = None
    moderation: Refused = None
    prediction: Refused = None
    prompt_cache_options: Refused = None
    prompt_cache_retention: Refused = None
    reasoning_effort: Refused = None
    verbosity: Refused = None
    web_search_options: Refused = None

    def wanted_tokens(self) -> int | None:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise InvalidRequest(
                "max_tokens and max_completion_tokens differ.",
                "They are two names of one limit.",
                "Send one.",
                param="max_tokens",
            )
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def logprobs_wanted(self) -> tuple[bool, int]:
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs.", next="Set logprobs to true.", param="top_logprobs")
        return bool(self.logprobs), self.top_logprobs or 0

    def schema_wanted(self) -> Json | None:
        """The JSON schema of the answer; `{}` for any object; None for free text."""
        wanted = self.response_format
        if isinstance(wanted, SchemaFormat):
            check_depth(wanted.json_schema.schema_, "response_format.json_schema.schema")
            return free_form(wanted.json_schema.schema_)
        return {} if isinstance(wanted, JsonObjectFormat) else None


def chat_request(body: ChatRequest, card: ModelCard, call: Call, server: ServerConfig) -> tuple[Request, toolbox.Plan]:
    """What the client asks, as the ledger's noun, and how its tools are handled. Raises `InvalidRequest`."""
    if not card.chat:
        raise InvalidRequest(
            f"The model {card.name!r} has no chat template.", next="Use /v1/completions.", param="model"
        )
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream.", next="Set stream to true.", param="stream_options")
    schema = body.schema_wanted()
    functions = toolbox.functions_from(body.tools or (), nested=True)
    storable(body.tools or (), "tools")
    choice, functions = toolbox.choice_from(body.tool_choice, functions, nested=True)
    parallel = body.parallel_tool_calls is not False
    plan = toolbox.plan(functions, choice, card, parallel=parallel, structured=schema is not None)
    if schema is not None and plan.json_schema is not None:
        raise UnsupportedParameter(
            "A forced tool call and a JSON format can't both hold the answer.",
            next="Drop one of them.",
            param="response_format",
        )
    request = Request(
        id=new_id("chatcmpl-"),
        model=card.name,
        kind="chat",
        messages=tuple(_flat(message) for message in body.messages),
        tools=plan.tools,
        json_schema=plan.json_schema if plan.json_schema is not None else schema,
        template_kwargs=free_form(body.chat_template_kwargs),
        sampling=body.sampling(),
        n=body.n or 1,
        tenant=call.tenant,
        received_unix_s=call.received_unix_s,
        deadline_unix_s=call.deadline_unix_s,
        priority=call.priority,
        meta={key: value for key in ("user", "safety_identifier") if (value := getattr(body, key)) is not None},
    )
    check_against(card, request, server, names=chat_names(plan))
    return request, plan


def chat_names(plan: toolbox.Plan) -> dict[str, str]:
    """What the ledger's names are called here, where they differ."""
    return {"json_schema": "tool_choice"} if plan.json_schema is not None else {}


def _flat(message: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> Json:
    """A message as chat templates know it: plain strings, and no empty keys. `developer` is today's `system`."""
    flat: Json = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _joined(message.content),
    }
    if isinstance(message, ToolMessage):
        flat["tool_call_id"] = message.tool_call_id
        return flat
    if message.name is not None:
        flat["name"] = message.name
    if isinstance(message, AssistantMessage):
        if message.refusal and not flat["content"]:
            flat["content"] = message.refusal
        if message.tool_calls:
            flat["tool_calls"] = [
                {
                    "id": each.id,
                    "type": "function",
                    "function": {"name": each.function.name, "arguments": each.function.arguments},
                }
                for each in message.tool_calls
            ]
        elif message.content is None and not message.refusal:
            raise InvalidRequest("An assistant message needs content or tool_calls.", param="messages")
    return flat


def _joined(content: str | list[TextPart] | list[TextPart | RefusalPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
