"""POST /v1/responses: one turn of a conversation, whole, streamed or in the background."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from freehold.core import Json, ModelCard, Request
from freehold.errors import InvalidRequest, NotFound, UnsupportedParameter, from_failure
from freehold.gateway.call import Call, new_id
from freehold.gateway.cards import card_of
from freehold.gateway.collect import collect
from freehold.gateway.desk import Desk
from freehold.gateway.limits import check_against, storable
from freehold.gateway.marks import Seen, seen_by
from freehold.gateway.reader import Reader
from freehold.gateway.responses.events import Writer
from freehold.gateway.responses.items import conversation, kept_items, messages_of, without_instructions
from freehold.gateway.responses.live import as_recorded, tell
from freehold.gateway.responses.object import Outcome, Told, echo_of, outcome_of, response_object, told_of
from freehold.gateway.responses.wire import ResponseRequest
from freehold.gateway.resume import with_meta
from freehold.gateway.stream import SSE_HEADERS, Follower, Receive, Send, send_json
from freehold.gateway.tools import plan as toolbox
from freehold.gateway.usage import note_first
from freehold.gateway.webhooks import submit_with_webhook
from freehold.gateway.wire import free_form
from freehold.gateway.wire_errors import parse
from freehold.ledger.protocol import Entry

_NAMES = {"max_tokens": "max_output_tokens", "json_schema": "text.format", "logprobs": "include"}


class Responses:
    """The responses that this gateway has accepted and those it finds in the ledger."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def create(self, call: Call, body: bytes, receive: Receive, send: Send) -> None:
        """The plain ASGI handler of POST /v1/responses."""
        if call.last_event_id is not None:
            await self.resume(call, seen_by(call.last_event_id), receive, send)
            return
        wanted = parse(ResponseRequest, body)
        card = await card_of(self.desk, wanted.model, call)
        call.model = card.name
        _check_whole(wanted, card)
        history = await self._history(wanted.previous_response_id, call)
        request, told = response_request(wanted, card, call, history)
        names = _NAMES | ({"json_schema": "tool_choice"} if told.plan.style == "forced" else {})
        check_against(card, request, self.desk.server, names=names)
        try:
            await self._answer(call, request, told, wanted, receive, send)
        except InvalidRequest as error:  # the engine's word for a field, in this API's
            error.param = names.get(error.param or "", error.param)
            raise

    async def _answer(
        self, call: Call, request: Request, told: Told, wanted: ResponseRequest, receive: Receive, send: Send
    ) -> None:
        request = with_meta(request, call, None)
        if wanted.background:
            await self._in_background(request, told, wanted, send)
            return
        inbox = await self.desk.submit(request, resumable_s=call.resumable_s)
        request = inbox.request
        async with Follower(self.desk, call, receive, inbox) as reader:
            writer = Writer(request.id, told, request.received_unix_s)
            if wanted.stream:
                await self._stream(call, reader, writer, send)
                return
            collected = await collect(reader)
        note_first(call, inbox)
        whole = collected.answers[0][0]
        writer.feed(whole.text, whole.logprobs, [])
        outcome = Outcome(finish=whole.finish, usage=collected.usage)
        writer.end(await as_recorded(self.desk, request.id, outcome) if request.keep else outcome, [])
        await send_json(send, msgspec.json.encode(writer.response))

    async def _stream(self, call: Call, reader: Reader, writer: Writer, send: Send) -> None:
        """The status line waits for the first chunk, which may be a refusal."""
        await reader.first()
        for chunk in reader.inbox.chunks:
            if chunk.failure is not None:
                raise from_failure(chunk.failure)
        note_first(call, reader.inbox)
        reader.inbox.streamed = True
        await self._tell(reader, writer, send)

    async def _tell(self, reader: Reader, writer: Writer, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})
        async for part in tell(reader, writer, self.desk):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _in_background(self, request: Request, told: Told, wanted: ResponseRequest, send: Send) -> None:
        """The response goes on when the client leaves."""
        inbox = await submit_with_webhook(self.desk, request, wanted.webhook)
        request = inbox.request
        if not wanted.stream:
            queued = response_object(request.id, told, request.received_unix_s, "queued", [])
            await send_json(send, msgspec.json.encode(queued))
            return
        reader = Reader(inbox)
        try:
            await self._tell(reader, Writer(request.id, told, request.received_unix_s), send)
        finally:
            self.desk.leave(reader)

    async def resume(self, call: Call, seen: Seen, receive: Receive, send: Send) -> None:
        """The events of a response after the one that was seen last."""
        entry, told = await self.entry(seen.id, call, kept=False)
        inbox = await self.desk.follow([seen.id], call.tenant, call.resumable_s)
        writer = Writer(seen.id, told, entry.request.received_unix_s, *seen.place)
        async with Follower(self.desk, call, receive, inbox) as reader:
            await self._tell(reader, writer, send)

    async def _history(self, previous_id: str | None, call: Call) -> list[Json]:
        """The messages of the conversation that a new turn goes on with."""
        if previous_id is None:
            return []
        entry, told = await self.entry(previous_id, call, param="previous_response_id")
        result = entry.result
        if entry.state != "done" or result is None or result.failure is not None:
            why = "It has not ended yet." if entry.state != "done" else "It failed."
            raise InvalidRequest(f"The response {previous_id!r} can't be continued.", why, param="previous_response_id")
        earlier = without_instructions(entry.request.messages, told.system)
        return [*earlier, *messages_of(replay(entry, told).output)]

    async def entry(self, id: str, call: Call, *, param: str | None = None, kept: bool = True) -> tuple[Entry, Told]:
        """A response of this caller; `kept`: one that is stored. Raises `NotFound`."""
        entry = await self.desk.ledger.fetch(id)
        mine = entry is not None and entry.request.tenant == call.tenant and (entry.request.keep or not kept)
        told = told_of(entry) if entry is not None and mine else None
        if entry is None or told is None:
            raise NotFound(
                f"Response with id {id!r} not found.",
                "It never was, was not stored, was deleted, or its time is over.",
                param=param,
            )
        return entry, told


def replay(entry: Entry, told: Told) -> Writer:
    """A finished response told once more, to nobody: its object and output are what counts."""
    writer = Writer(entry.request.id, told, entry.request.received_unix_s)
    answer, outcome = outcome_of(entry)
    writer.feed(answer.text, answer.logprobs, [])
    writer.end(outcome, [])
    return writer


def _check_whole(body: ResponseRequest, card: ModelCard) -> None:
    """What can be said of the body's fields together."""
    if not card.chat:
        raise InvalidRequest(
            f"The model {card.name!r} has no chat template.", next="Use /v1/completions.", param="model"
        )
    if body.background and not body.stored:
        raise InvalidRequest(
            "A background response has to be stored.",
            "Nobody could fetch it.",
            "Leave store out, or set it to true.",
            param="store",
        )
    if body.webhook is not None and not body.background:
        raise InvalidRequest("webhook needs background.", next="Set background to true.", param="webhook")
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream.", next="Set stream to true.", param="stream_options")


def response_request(
    body: ResponseRequest, card: ModelCard, call: Call, history: Sequence[Json]
) -> tuple[Request, Told]:
    """What the client asks, as the ledger's noun, and what it takes to tell the answer. Raises `InvalidRequest`."""
    id = new_id("resp_")
    schema = body.schema_wanted()
    functions = toolbox.functions_from(body.tools or (), nested=False)
    storable(body.tools or (), "tools")
    choice, functions = toolbox.choice_from(body.tool_choice, functions, nested=False)
    parallel = body.parallel_tool_calls is not False
    plan = toolbox.plan(functions, choice, card, parallel=parallel, structured=schema is not None)
    if schema is not None and plan.json_schema is not None:
        raise UnsupportedParameter(
            "A forced tool call and a JSON format can't both hold the answer.",
            next="Drop one of them.",
            param="text.format",
        )
    items = kept_items(body.input, id)
    told = Told(echo=echo_of(body, card.name), input=items, plan=plan, system=body.instructions or "")
    request = Request(
        id=id,
        model=card.name,
        kind="chat",
        messages=tuple(conversation(body.instructions, history, messages_of(items))),
        tools=plan.tools,
        json_schema=plan.json_schema if plan.json_schema is not None else schema,
        template_kwargs=free_form(body.chat_template_kwargs),
        sampling=body.sampling(),
        tenant=call.tenant,
        received_unix_s=call.received_unix_s,
        deadline_unix_s=call.deadline_unix_s,
        priority=call.priority,
        keep=body.stored,
        meta=msgspec.to_builtins(told),
    )
    return request, told
