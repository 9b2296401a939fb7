"""The body of POST /v1/responses: every field OpenAI has, honoured or refused by name, and the extensions.

Fields that concern things a model here never does (reasoning, built-in tools) are taken where they ask for
nothing: `include` of a reasoning item, `max_tool_calls` of built-in tools.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from freehold.core import Json
from freehold.gateway.tools.schema import check_depth
from freehold.gateway.wire import ModelName, Refused, SamplingFields, Webhook, Wire, free_form

ItemId = Annotated[str, Field(min_length=1, max_length=128)]
Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Wire):
    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: Refused = None


class OutputText(Wire):
    """A part of an earlier answer, as it came; its annotations and log-probabilities are not read."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    parsed: Any = None


class Refusal(Wire):
    type: Literal["refusal"]
    refusal: str


ContentPart = Annotated[InputText | OutputText | Refusal, Field(discriminator="type")]


class MessageItem(Wire):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Annotated[list[ContentPart], Field(min_length=1)]
    id: ItemId | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(Wire):
    type: Literal["function_call"]
    call_id: ItemId
    name: str = Field(min_length=1, max_length=128)
    arguments: str = Field(description="The arguments as JSON text.")
    id: ItemId | None = None
    status: Status | None = None
    parsed_arguments: Any = None
    namespace: Refused = None


class FunctionCallOutputItem(Wire):
    type: Literal["function_call_output"]
    call_id: ItemId
    output: str | list[InputText]
    id: ItemId | None = None
    status: Status | None = None


def _kind_of_item(item: object) -> str | None:
    """An item without a type is a message."""
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if isinstance(kind, str) else None


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionCallOutputItem, Tag("function_call_output")],
    Discriminator(
        _kind_of_item,
        custom_error_type="item_type",
        custom_error_message="The type of an item is 'message', 'function_call' or 'function_call_output' here",
    ),
]


class FreeTextFormat(Wire):
    type: Literal["text"]


class AnyObjectFormat(Wire):
    type: Literal["json_object"]


class NamedSchemaFormat(Wire):
    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = Field(None, description="The schema is always enforced, strict or not.")


class TextOptions(Wire):
    format: Annotated[FreeTextFormat | AnyObjectFormat | NamedSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = Field(None, description="Models here have no dial for it.")


class Reasoning(Wire):
    effort: Literal["none"] | None = Field(None, description="Models here don't reason apart from their answer.")
    summary: Refused = None
    generate_summary: Refused = None


class ResponseStreamOptions(Wire):
    include_obfuscation: Literal[False] | None = Field(
        None, description="Padding against traffic analysis: not offered."
    )


Include = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class ResponseRequest(SamplingFields):
    """One turn of a conversation, kept by the server unless `store` is false."""

    input: str | Annotated[list[Item], Field(min_length=1, max_length=4096)]
    model: ModelName | None = None
    instructions: str | None = None
    previous_response_id: str | None = Field(None, min_length=1, max_length=128)
    max_output_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = Field(
        None, description="Default true: the response can be fetched, continued and deleted by id."
    )
    background: bool | None = Field(None, description="Answer at once, with an id to poll, follow or cancel.")
    webhook: Webhook | None = Field(
        None, description="Extension. Only with background: whom to tell when it has ended."
    )
    text: TextOptions | None = None
    tools: list[dict[str, Any]] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = Field(
        None, ge=1, le=2**31 - 1, description="Counts built-in tools, of which there are none."
    )
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: Annotated[list[Include], Field(max_length=16)] | None = None
    truncation: Literal["disabled"] | None = Field(
        None, description="Too long an input is a 400, never cut in silence."
    )
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    reasoning: Reasoning | None = None
    service_tier: Literal["auto", "default"] | None = None
    user: str | None = Field(None, max_length=512)
    safety_identifier: str | None = Field(None, max_length=128)
    prompt_cache_key: str | None = Field(
        None, max_length=512, description="A hint; equal prefixes share a cache here without it."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="Extension. Variables for the chat template.")
    access_programs: Refused = None
    background_options: Refused = None
    context_management: Refused = None
    conversation: Refused = None
    image: Refused = None
    moderation: Refused = None
    prompt: Refused = None
    prompt_cache_options: Refused = None
    prompt_cache_retention: Refused = None
    max_tokens: Refused = None
    n: Refused = None

    def wanted_tokens(self) -> int | None:
        return self.max_output_tokens

    def logprobs_wanted(self) -> tuple[bool, int]:
        asked = "message.output_text.logprobs" in (self.include or ())
        return asked or bool(self.top_logprobs), self.top_logprobs or 0

    @property
    def stored(self) -> bool:
        return self.store is not False

    def schema_wanted(self) -> Json | None:
        """The JSON schema of the answer; `{}` for any object; None for free text."""
        wanted = self.text.format if self.text else None
        if isinstance(wanted, NamedSchemaFormat):
            check_depth(wanted.schema_, "text.format.schema")
            return free_form(wanted.schema_)
        return {} if isinstance(wanted, AnyObjectFormat) else None
