"""POST /v1/responses: one turn of a conversation, whole, streamed or in the background."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from freehold.core import Chunk, Json, ModelCard, Request
from freehold.errors import InvalidRequest, NotFound, UnsupportedParameter, from_failure
from freehold.gateway.call import Call, new_id
from freehold.gateway.collect import collect
from freehold.gateway.desk import Desk
from freehold.gateway.inbox import Inbox
from freehold.gateway.limits import check_against, storable
from freehold.gateway.responses.events import Writer
from freehold.gateway.responses.items import conversation, kept_items, messages_of, without_instructions
from freehold.gateway.responses.live import Live, as_recorded
from freehold.gateway.responses.object import Outcome, Told, echo_of, outcome_of, response_object, told_of
from freehold.gateway.responses.wire import ResponseRequest
from freehold.gateway.stream import SSE_HEADERS, Follower, Receive, Send, send_json
from freehold.gateway.tools import plan as toolbox
from freehold.gateway.usage import Counter, note_first
from freehold.gateway.wire import free_form
from freehold.gateway.wire_errors import parse
from freehold.ledger.protocol import Entry

_NAMES = {"max_tokens": "max_output_tokens", "json_schema": "text.format", "logprobs": "include"}


class Responses:
    """The responses that this gateway has accepted and those it finds in the ledger."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.live: dict[str, Live] = {}

    async def create(self, call: Call, body: bytes, receive: Receive, send: Send) -> None:
        """The plain ASGI handler of POST /v1/responses."""
        wanted = parse(ResponseRequest, body)
        card = await self.desk.card(wanted.model)
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
        if wanted.background:
            await self._in_background(request, told, bool(wanted.stream), receive, send)
            return
        inbox = await self.desk.submit(request)
        async with Follower(self.desk, inbox, receive):
            writer = Writer(request.id, told, request.received_unix_s)
            if wanted.stream:
                await self._stream(call, inbox, writer, send)
                return
            collected = await collect(inbox)
        note_first(call, inbox)
        whole = collected.answers[0][0]
        writer.feed(whole.text, whole.logprobs, [])
        outcome = Outcome(finish=whole.finish, usage=collected.usage)
        writer.end(await as_recorded(self.desk, request.id, outcome) if request.keep else outcome, [])
        await send_json(send, msgspec.json.encode(writer.response))

    async def _stream(self, call: Call, inbox: Inbox, writer: Writer, send: Send) -> None:
        """Like `stream.send_stream`, with this API's events."""
        chunks = await inbox.take()
        for chunk in chunks:
            if chunk.failure is not None:
                raise from_failure(chunk.failure)
        note_first(call, inbox)
        await send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})
        counter = Counter()
        out: list[bytes] = []
        writer.begin(out)
        outcome = None
        while outcome is None:
            for chunk in chunks:
                counter.add(chunk)
                writer.feed(chunk.text, chunk.logprobs, out)
                outcome = outcome or _end_of(chunk, counter)
            if outcome is not None:
                keep = inbox.request.keep
                writer.end(await as_recorded(self.desk, writer.id, outcome) if keep else outcome, out)
            if out:
                await send({"type": "http.response.body", "body": b"".join(out), "more_body": outcome is None})
                out.clear()
            chunks = await inbox.take() if outcome is None else []

    async def _in_background(self, request: Request, told: Told, stream: bool, receive: Receive, send: Send) -> None:
        """The response goes on when the client leaves."""
        live = Live(at_end=lambda: self._retire(request.id))
        self.live[request.id] = live
        try:
            live.inbox = await self.desk.submit(request, silent=True, tap=live.push)
        except BaseException:
            self._retire(request.id)
            raise
        if not stream:
            queued = response_object(request.id, told, request.received_unix_s, "queued", [])
            await send_json(send, msgspec.json.encode(queued))
            return
        await send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})
        async for part in live.tell(Writer(request.id, told, request.received_unix_s), self.desk):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _retire(self, id: str) -> None:
        self.live.pop(id, None)

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

    async def entry(self, id: str, call: Call, *, param: str | None = None) -> tuple[Entry, Told]:
        """A kept response of this caller. Raises `NotFound`."""
        entry = await self.desk.ledger.fetch(id)
        told = (
            told_of(entry) if entry is not None and entry.request.keep and entry.request.tenant == call.tenant else None
        )
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


def _end_of(chunk: Chunk, counter: Counter) -> Outcome | None:
    if chunk.finish is None and chunk.failure is None:
        return None
    return Outcome(finish=chunk.finish or "error", usage=counter.total(), failure=chunk.failure)


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
