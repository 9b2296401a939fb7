"""Input items of a response: kept in OpenAI's shape, and turned into the messages a chat template knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from freehold.core import Json
from freehold.errors import InvalidRequest
from freehold.gateway.responses.wire import FunctionCallItem, FunctionCallOutputItem, MessageItem
from freehold.gateway.tools.plan import template_call

Item = MessageItem | FunctionCallItem | FunctionCallOutputItem


def item_id(prefix: str, response_id: str, number: int) -> str:
    """Id of an item of a response: follows from the response's own, so that it is the same whenever it is told."""
    return f"{prefix}_{response_id.removeprefix('resp_')}{number:03x}"


def kept_items(given: str | Sequence[Item], response_id: str) -> list[Json]:
    """The input as `GET /v1/responses/{id}/input_items` shows it: complete items, each with an id."""
    items = [MessageItem(role="user", content=given)] if isinstance(given, str) else given
    return [_kept(item, response_id, 0x800 + i) for i, item in enumerate(items)]


def _kept(item: Item, response_id: str, number: int) -> Json:
    if isinstance(item, FunctionCallItem):
        id = item.id or item_id("fc", response_id, number)
        call: Json = {"type": "function_call", "id": id, "call_id": item.call_id, "name": item.name}
        return call | {"arguments": item.arguments, "status": item.status or "completed"}
    if isinstance(item, FunctionCallOutputItem):
        output: object = item.output
        if not isinstance(item.output, str):
            output = [{"type": "input_text", "text": part.text} for part in item.output]
        id = item.id or item_id("fco", response_id, number)
        kept: Json = {"type": "function_call_output", "id": id, "call_id": item.call_id, "output": output}
        return kept | {"status": item.status or "completed"}
    id = item.id or item_id("msg", response_id, number)
    message: Json = {"type": "message", "id": id, "role": item.role, "status": item.status or "completed"}
    return message | {"content": _kept_content(item)}


def _kept_content(item: MessageItem) -> list[Json]:
    texts = [item.content] if isinstance(item.content, str) else [_text(part) for part in item.content]
    if item.role == "assistant":
        return [{"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in texts]
    return [{"type": "input_text", "text": text} for text in texts]


def _text(part: object) -> str:
    return str(getattr(part, "refusal", "") or getattr(part, "text", ""))


def messages_of(items: Iterable[Json]) -> list[Json]:
    """Chat messages for kept items: texts joined, calls gathered in the assistant message they belong to."""
    messages: list[Json] = []
    for item in items:
        if item["type"] == "function_call":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            calls = messages[-1].setdefault("tool_calls", [])
            calls.append(template_call(item["call_id"], item["name"], item["arguments"]))
        elif item["type"] == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _joined(item["output"])})
        else:
            role = "system" if item["role"] == "developer" else item["role"]
            messages.append({"role": role, "content": _joined(item["content"])})
    return messages


def _joined(content: str | list[Json]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def conversation(instructions: str | None, history: Sequence[Json], new: Sequence[Json]) -> list[Json]:
    """The whole prompt. Templates know one system message at the start, so those that lead are joined to one."""
    messages = [*history, *new]
    systems = [instructions] if instructions else []
    while messages and messages[0]["role"] == "system":
        systems.append(messages.pop(0)["content"])
    if systems:
        messages.insert(0, {"role": "system", "content": "\n\n".join(systems)})
    _check_calls(messages)
    return messages


def without_instructions(messages: Sequence[Json], instructions: str | None) -> list[Json]:
    """The other way round: what the next turn goes on with, since instructions hold for one response only."""
    if not instructions:
        return list(messages)
    rest = messages[0]["content"].removeprefix(instructions).removeprefix("\n\n")
    return [*([{"role": "system", "content": rest}] if rest else []), *messages[1:]]


def _check_calls(messages: Sequence[Json]) -> None:
    called = {call["id"] for message in messages for call in message.get("tool_calls", ())}
    for message in messages:
        if message["role"] == "tool" and message["tool_call_id"] not in called:
            raise InvalidRequest(
                f"No call is known for the function output {message['tool_call_id']!r}.",
                "Neither the input nor the previous response has a function_call with this call_id.",
                "Send the function_call before its output, or name the previous_response_id.",
                param="input",
            )
