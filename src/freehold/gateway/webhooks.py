"""Webhooks: a signed word (Standard Webhooks) to a client's own server when its background request has ended.

A note in the ledger is written before the request is accepted, and dropped once the receiver has said 2xx: neither a
gateway's death nor the receiver's loses it. It tells the id and how it ended; what was said is fetched by the id.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from freehold import log
from freehold.core import Record, Request
from freehold.errors import FreeholdError, InvalidRequest
from freehold.gateway.address import httpx_loaded, resolve
from freehold.gateway.batches.batch import ENDED, batch_event, batch_of
from freehold.gateway.batches.batch import KIND as BATCH
from freehold.gateway.desk import Desk
from freehold.gateway.inbox import Inbox
from freehold.gateway.responses.object import outcome_of
from freehold.gateway.wire import Webhook
from freehold.ledger.protocol import Entry

if TYPE_CHECKING:
    import httpx

KIND = "webhook"
LOOK_S = 0.5
LEASE_S = 60.0
AT_ONCE = 16
ANSWER_S = 10.0
UNKNOWN_S = 60.0
"""A request that isn't there this long after its note was never accepted."""
MOST_TRIES = 20
"""With `pause_s` about nine hours."""


class Note(Record, frozen=True):
    """What is to be told, where."""

    url: str
    secret: str
    made_unix_s: float
    tries: int = 0


async def submit_with_webhook(desk: Desk, request: Request, webhook: Webhook | None) -> Inbox:
    """`Desk.submit` of a request that goes on without its client, and afterwards calls `webhook`. Raises
    `InvalidRequest` for one that can't be called."""
    if webhook is None:
        return await desk.submit(request, lasting=True)
    url, secret = await checked(desk, webhook)
    desk.check_open()
    await keep_webhook(desk, request.id, url, secret)
    try:
        inbox = await desk.submit(request, lasting=True)
    except FreeholdError:
        await desk.ledger.drop_note(KIND, request.id)
        raise
    if inbox.request.id != request.id:  # its idempotency key is known, and so is its webhook
        await desk.ledger.drop_note(KIND, request.id)
    return inbox


async def checked(desk: Desk, webhook: Webhook) -> tuple[str, str]:
    """URL and secret. Raises `InvalidRequest` for one that can't be called."""
    secret = webhook.secret or desk.server.webhook_secret
    secret_bytes(secret)
    await resolve(webhook.url, private=desk.server.webhook_private == "on")
    return webhook.url, secret


async def keep_webhook(desk: Desk, id: str, url: str, secret: str) -> None:
    """Durably: once `id` has ended, tell."""
    note = Note(url, secret, time.time())
    await desk.ledger.keep_note(KIND, id, LOOK_S, msgspec.msgpack.encode(note))


async def call_webhooks(desk: Desk) -> None:
    """For ever: tell what has ended."""
    while True:
        try:
            due = await desk.ledger.take_due(KIND, LEASE_S, AT_ONCE)
            if due:
                await _attend_all(desk, due)
        except FreeholdError as error:
            due = []
            log.event("gateway.store", level="error", why=str(error))
        await asyncio.sleep(0 if len(due) == AT_ONCE else LOOK_S)


async def _attend_all(desk: Desk, due: Sequence[tuple[str, bytes]]) -> None:
    httpx = await httpx_loaded()
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=ANSWER_S, limits=limits, trust_env=False, follow_redirects=False) as http:
        await asyncio.gather(*(_attend(desk, http, id, blob) for id, blob in due))


async def _attend(desk: Desk, http: httpx.AsyncClient, id: str, blob: bytes) -> None:
    note = msgspec.msgpack.decode(blob, type=Note)
    known, told = await _ended(desk, id)
    if not known and time.time() - note.made_unix_s > UNKNOWN_S:
        await desk.ledger.drop_note(KIND, id)
    elif told is None:
        await desk.ledger.keep_note(KIND, id, LOOK_S, blob)
    else:
        await _tell(desk, http, note, id, told)


async def _ended(desk: Desk, id: str) -> tuple[bool, bytes | None]:
    """Whether a request or batch is known, and what is told of its end if it has ended."""
    if id.startswith(f"{BATCH}_"):
        folder = await desk.ledger.folder(id)
        batch = batch_of(folder) if folder is not None else None
        return batch is not None, batch_event(batch) if batch is not None and batch.status in ENDED else None
    entry = await desk.ledger.fetch(id)
    return entry is not None, event(entry) if entry is not None and entry.state == "done" else None


async def _tell(desk: Desk, http: httpx.AsyncClient, note: Note, id: str, told: bytes) -> None:
    import httpx

    try:
        async with asyncio.timeout(2 * ANSWER_S):
            status = await _post(http, note, id, told, private=desk.server.webhook_private == "on")
        why = f"status {status}"
    except (httpx.HTTPError, httpx.InvalidURL, InvalidRequest, TimeoutError) as error:
        status, why = 0, error.why if isinstance(error, InvalidRequest) else type(error).__name__
    if 200 <= status < 300:
        await desk.ledger.drop_note(KIND, id)
        return
    tries = note.tries + 1
    where = urlsplit(note.url).hostname  # a URL's path and query may hold what only its owner should know
    over = status == 410 or tries >= MOST_TRIES
    log.event("webhook.gave_up" if over else "webhook.failed", level="warning", request=id, host=where, why=why)
    if over:
        await desk.ledger.drop_note(KIND, id)
    else:
        again = msgspec.structs.replace(note, tries=tries)
        await desk.ledger.keep_note(KIND, id, pause_s(tries), msgspec.msgpack.encode(again))


async def _post(http: httpx.AsyncClient, note: Note, id: str, body: bytes, *, private: bool) -> int:
    """To the very address that was checked, under the host's name. The status; what else it says isn't read."""
    address = await resolve(note.url, private=private)
    url = (await httpx_loaded()).URL(note.url)
    headers = {"host": url.netloc.decode(), "content-type": "application/json", "user-agent": "freehold"}
    headers |= signature(note.secret, f"msg_{id}", int(time.time()), body)
    pinned, sni = url.copy_with(host=address), {"sni_hostname": url.raw_host.decode()}
    async with http.stream("POST", pinned, content=body, headers=headers, extensions=sni) as reply:
        return reply.status_code


def event(entry: Entry) -> bytes:
    """OpenAI's shape: `response.completed` and so on; for POST /generate `generation.completed`."""
    _, outcome = outcome_of(entry)
    response = "echo" in entry.request.meta
    status = outcome.status
    if not response and status == "incomplete":
        status = "completed"
    kind = f"{'response' if response else 'generation'}.{status}"
    told = {"id": f"evt_{entry.request.id}", "object": "event", "created_at": int(outcome.ended_unix_s), "type": kind}
    return msgspec.json.encode(told | {"data": {"id": entry.request.id}})


def signature(secret: str, id: str, unix_s: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`."""
    signed = f"{id}.{unix_s}.".encode() + body
    mac = base64.b64encode(hmac.digest(secret_bytes(secret), signed, hashlib.sha256)).decode()
    return {"webhook-id": id, "webhook-timestamp": str(unix_s), "webhook-signature": f"v1,{mac}"}


def secret_bytes(secret: str) -> bytes:
    """Raises `InvalidRequest` for one that can't sign."""
    try:
        found = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not 16 <= len(found) <= 64:
        raise InvalidRequest(
            "The webhook can't be signed.",
            "It needs a secret: whsec_ and 16 to 64 bytes as base64.",
            "Send webhook.secret, or set server.webhook_secret for all.",
            param="webhook.secret",
        )
    return found


def pause_s(tries: int) -> float:
    """Before the next try: doubling from a second to an hour, with jitter so that receivers aren't hit together."""
    return min(3600.0, 2.0 ** (tries - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  spreads, hides nothing
