"""A batch as it lies in the ledger, and as OpenAI's clients see it. Pure.

validating ─► in_progress ─► finalizing ─► completed
    │              ├─► (its window is over) ─► finalizing ─► expired
    │              └─► cancelling ──────────────────────────► cancelled
    └─► failed
"""

from __future__ import annotations

import time
from typing import Literal

import msgspec

from freehold.core import Json, Record
from freehold.gateway.batches.lines import Complaint
from freehold.ledger.folders import Folder

KIND = "batch"
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
ENDED: frozenset[Status] = frozenset({"failed", "completed", "expired", "cancelled"})


class Batch(Record, frozen=True):
    """The label of a batch's folder."""

    id: str
    tenant: str
    endpoint: Endpoint
    input_file_id: str
    completion_window: str
    expires_unix_s: float
    priority: int
    status: Status = "validating"
    outcome: Status = "completed"
    """What it ends as once it is finalized."""
    times: dict[str, int] = {}
    """When it came into each status."""
    metadata: dict[str, str] | None = None
    output_lasts_s: float = 0.0
    output_id: str = ""
    """Folder of the answers, one a sheet, by the number of the line; nobody's until the batch has ended."""
    error_id: str = ""
    """The same for lines that failed."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    complaints: tuple[Complaint, ...] = ()
    driver: str = ""
    """Who works on it: one life of a gateway's work on this batch."""
    webhook: tuple[str, str] | None = None
    """URL and secret."""
    fingerprint: str = ""
    """Of the body that came with its idempotency key."""


encode = msgspec.msgpack.encode
_decoder = msgspec.msgpack.Decoder(Batch)


def batch_of(folder: Folder) -> Batch:
    return _decoder.decode(folder.label)


def become(batch: Batch, status: Status, **more: object) -> Batch:
    """`batch` in another status, from now on."""
    times = batch.times | {status: int(time.time())}
    return msgspec.structs.replace(batch, status=status, times=times, **more)


def batch_object(batch: Batch) -> Json:
    """OpenAI's `batch`."""
    times = batch.times
    ended = batch.status in ENDED
    complaints = [msgspec.structs.asdict(each) for each in batch.complaints]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": complaints} if complaints else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_id if ended and batch.completed else None,
        "error_file_id": batch.error_id if ended and batch.failed else None,
        "created_at": times["validating"],
        "in_progress_at": times.get("in_progress"),
        "expires_at": int(batch.expires_unix_s),
        "finalizing_at": times.get("finalizing"),
        "completed_at": times.get("completed"),
        "failed_at": times.get("failed"),
        "expired_at": times.get("expired"),
        "cancelling_at": times.get("cancelling"),
        "cancelled_at": times.get("cancelled"),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata,
    }


def batch_event(batch: Batch) -> bytes:
    """What a webhook is told: OpenAI's `batch.completed` and so on."""
    made = {"id": f"evt_{batch.id}", "object": "event", "created_at": batch.times[batch.status]}
    return msgspec.json.encode(made | {"type": f"batch.{batch.status}", "data": {"id": batch.id}})


def answer_line(batch: Batch, number: int, custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """A line of the output file, or of the error file for a status that isn't 200."""
    answered = {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)}
    return _line(batch, number, custom_id, answered, None)


def unanswered_line(batch: Batch, number: int, custom_id: str) -> bytes:
    """The line of a request for which the time didn't suffice."""
    said = "This request could not be executed before the completion window expired."
    return _line(batch, number, custom_id, None, {"code": "batch_expired", "message": said})


def _line(batch: Batch, number: int, custom_id: str, answered: Json | None, error: Json | None) -> bytes:
    id = f"batch_req_{batch.id.removeprefix('batch_')}_{number}"
    return msgspec.json.encode({"id": id, "custom_id": custom_id, "response": answered, "error": error}) + b"\n"
