"""Bodies of batches, and what is answered about files and batches: schemas for the OpenAPI page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from freehold.gateway.batches.batch import Endpoint, Status
from freehold.gateway.batches.upload import LEAST_S, MOST_S
from freehold.gateway.wire import Webhook, Wire
from freehold.gateway.wire_answers import Answer

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}

MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataText = Annotated[str, Field(max_length=512)]


class ExpiresAfter(Wire):
    anchor: Literal["created_at"]
    seconds: int = Field(ge=LEAST_S, le=MOST_S)


class BatchRequest(Wire):
    """POST /v1/batches."""

    input_file_id: str = Field(min_length=1, max_length=256)
    endpoint: Endpoint
    completion_window: str = Field(
        pattern=r"^([1-9][0-9]{0,3}m|[1-9][0-9]{0,2}h|[12]?[1-9]d|[123]0d)$",
        description="OpenAI's `24h`. Extension: minutes, hours or days, such as `90m` or `7d`, up to 30 days.",
    )
    metadata: dict[MetadataKey, MetadataText] | None = Field(None, max_length=16)
    output_expires_after: ExpiresAfter | None = None
    webhook: Webhook | None = None


def window_s(text: str) -> float:
    """Seconds of a completion window."""
    return float(int(text[:-1]) * _UNITS_S[text[-1]])


class FileReply(Answer):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]
    status_details: None


class FileList(Answer):
    object: Literal["list"]
    data: list[FileReply]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(Answer):
    id: str
    object: Literal["file"]
    deleted: Literal[True]


class ComplaintReply(Answer):
    code: str
    message: str
    line: int | None
    param: str | None


class Complaints(Answer):
    object: Literal["list"]
    data: list[ComplaintReply]


class Counts(Answer):
    total: int
    completed: int
    failed: int


class BatchReply(Answer):
    id: str
    object: Literal["batch"]
    endpoint: Endpoint
    errors: Complaints | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    metadata: dict[str, str] | None


class BatchList(Answer):
    object: Literal["list"]
    data: list[BatchReply]
    first_id: str | None
    last_id: str | None
    has_more: bool
