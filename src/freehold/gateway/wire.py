"""What every request body has in common: strict types, no unknown field, sampling parameters, and plain-word errors.

pydantic only here, where strangers' data enters. A field that a peer API has and Freehold can't honour is declared
with type `Refused`: leaving it out or sending null is fine, anything else is a 400 that names it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import pydantic
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from freehold.config import ServerConfig
from freehold.core import Json, ModelCard, Request, Sampling
from freehold.errors import InvalidRequest, UnsupportedParameter

Body = TypeVar("Body", bound=BaseModel)

_INT32 = 2**31 - 1

Refused = Annotated[None, Field(description="Known, but not supported here: anything but null is refused with a 400.")]
TokenId = Annotated[int, Field(ge=0, le=_INT32)]
StopText = Annotated[str, Field(min_length=1, max_length=1024)]
ModelName = Annotated[
    str, Field(min_length=1, max_length=256, description="A name from GET /v1/models; left out: the served one.")
]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenIdText = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class Wire(BaseModel):
    """Base of every request body: unknown fields, coerced types and NaN are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class StreamOptions(Wire):
    include_usage: bool | None = Field(None, description="A last chunk with `usage`, with timings beside it.")
    include_obfuscation: Literal[False] | None = Field(
        None, description="Padding against traffic analysis: not offered."
    )


class SamplingFields(Wire):
    """Parameters that chat, text and /generate share. OpenAI's names, then the extensions."""

    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[TokenIdText, Bias] | None = Field(None, max_length=1024)
    max_tokens: int | None = Field(None, ge=1, le=_INT32)
    n: int | None = Field(None, ge=1, le=1024)
    seed: int | None = Field(None, description="Equal seeds and parameters give equal answers, as far as the engine can.")
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=_INT32, description="Extension. 0 or -1: off.")
    min_p: float | None = Field(None, ge=0, le=1, description="Extension.")
    repetition_penalty: float | None = Field(None, ge=0.01, le=10, description="Extension. 1: off.")
    min_tokens: int | None = Field(None, ge=0, le=_INT32, description="Extension.")
    ignore_eos: bool | None = Field(None, description="Extension. Generate until max_tokens.")
    stop_token_ids: list[TokenId] | None = Field(None, max_length=64, description="Extension.")

    def wanted_tokens(self) -> int | None:
        return self.max_tokens

    def logprobs_wanted(self) -> tuple[bool, int]:
        """Whether log-probabilities are asked for, and how many alternatives."""
        return False, 0

    def sampling(self) -> Sampling:
        logprobs, top = self.logprobs_wanted()
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        default = Sampling()
        return Sampling(
            max_tokens=self.wanted_tokens(),
            min_tokens=self.min_tokens or 0,
            temperature=_or(self.temperature, default.temperature),
            top_p=_or(self.top_p, default.top_p),
            top_k=max(0, self.top_k or 0),
            min_p=self.min_p or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=_or(self.repetition_penalty, default.repetition_penalty),
            seed=_stored_seed(self.seed),
            stop=stop,
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=bool(self.ignore_eos),
            logprobs=logprobs,
            top_logprobs=top,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()},
        )


def _stored_seed(seed: int | None) -> int | None:
    """Any whole number may be a seed; one that doesn't fit in 64 bits is folded, always in the same way."""
    return seed if seed is None or -(2**63) <= seed < 2**63 else seed % 2**63


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def parse(kind: type[Body], body: bytes) -> Body:
    """`body` as `kind`. Raises `InvalidRequest` that names the field and says what is expected."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error, kind, body) from None


_TAG_ERRORS = ("union_tag_not_found", "union_tag_invalid")


def invalid(error: ValidationError, kind: type[BaseModel], body: bytes) -> InvalidRequest:
    """The most telling one of pydantic's complaints, in words."""
    details = error.errors(include_url=False, include_context=True)
    if details[0]["type"] == "json_invalid":
        reason = str(details[0].get("ctx", {}).get("error", ""))
        return InvalidRequest(
            "The request body is not valid JSON.", reason[:1].upper() + reason[1:] + ".", "Send UTF-8 encoded JSON."
        )
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    worst = max(details, key=lambda detail: _telling(detail, sent))
    loc = worst["loc"]
    if worst["type"] in _TAG_ERRORS:
        loc = (*loc, worst.get("ctx", {}).get("discriminator", "type").strip("'"))
    path, steps = _path(loc, sent)
    if worst["type"] == "none_required":
        name = str(steps[-1]) if steps else ""
        return UnsupportedParameter(f"The parameter {name!r} is not supported here.", next="Leave it out.", param=path)
    if worst["type"] == "extra_forbidden":
        return InvalidRequest(f"Unknown parameter {path!r}.", next=_nearest(steps, kind), param=path)
    what = f"{path}: {_plain(worst)}" if path else "The request body must be a JSON object."
    return InvalidRequest(what, param=path or None)


def _telling(detail: ErrorDetails, sent: object) -> tuple[int, int]:
    """Deeper complaints first: of a union's alternatives, the one that matched furthest was meant."""
    depth = len(_path(detail["loc"], sent)[1])
    weight = {"literal_error": 2, "none_required": 2, "extra_forbidden": -1, "model_type": -1}
    return depth, weight.get(detail["type"], 0)


def _path(loc: Sequence[int | str], sent: object) -> tuple[str, list[int | str]]:
    """pydantic's location without the names of union branches, as `messages[0].content`."""
    steps: list[int | str] = []
    at = sent
    for i, step in enumerate(loc):
        if isinstance(at, dict) and isinstance(step, str) and step in at:
            at = at[step]
        elif isinstance(at, list) and isinstance(step, int) and step < len(at):
            at = at[step]
        elif not (isinstance(at, dict) and i == len(loc) - 1):
            continue
        steps.append(step)
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.lstrip("."), steps


def _plain(detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "string_too_short" and detail.get("input") == "":
        return "expected text, not an empty string."
    if kind == "missing":
        return "this field is required."
    if kind in _TAG_ERRORS:
        return f"expected one of {detail.get('ctx', {}).get('expected_tags', 'the known kinds')}."
    words = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    given = detail.get("input")
    shown = f" (it is {given!r})" if isinstance(given, int | float | str | bool) and len(repr(given)) < 60 else ""
    return ("expected " + words if "Input should be" in detail["msg"] else words[:1].lower() + words[1:]) + shown + "."


def _nearest(steps: Sequence[int | str], kind: type[BaseModel]) -> str:
    name = str(steps[-1]) if steps else ""
    close = difflib.get_close_matches(name, kind.model_fields, n=1, cutoff=0.6) if len(steps) == 1 else []
    return f"Did you mean {close[0]!r}?" if close else "Leave it out; no parameter is accepted and ignored."


_WIRE_NAMES = {"json_schema": "response_format", "template_kwargs": "chat_template_kwargs"}


def check_against(
    card: ModelCard, request: Request, server: ServerConfig, *, names: dict[str, str] | None = None
) -> None:
    """Refuse what this server or this model can't honour. `names`: request fields the caller calls differently."""
    called = _WIRE_NAMES | (names or {})
    sampling = request.sampling
    _at_most(request.n, server.max_n, "n", "server.max_n")
    if sampling.max_tokens is not None:
        _at_most(
            sampling.max_tokens,
            server.max_output_tokens,
            called.get("max_tokens", "max_tokens"),
            "server.max_output_tokens",
        )
    for field in card.unsupported:
        owner, default = (sampling, Sampling()) if field in Sampling.__struct_fields__ else (request, _BARE)
        if field in owner.__struct_fields__ and getattr(owner, field) != getattr(default, field):
            name = called.get(field, field)
            raise UnsupportedParameter(
                f"The parameter {name!r} is not supported by the engine {card.engine!r}.",
                next="Leave it out.",
                param=name,
            )
    if sampling.top_logprobs > card.max_top_logprobs:
        name = called.get("top_logprobs", "top_logprobs")
        raise UnsupportedParameter(
            f"{name} asks for {sampling.top_logprobs} alternatives.",
            f"The engine {card.engine!r} gives at most {card.max_top_logprobs}.",
            "Ask for fewer.",
            param=name,
        )
    _check_storable(request)


_BARE = Request(id="", model="", kind="text")


def _at_most(value: int, limit: int, name: str, setting: str) -> None:
    if value > limit:
        raise InvalidRequest(
            f"{name} is {value}, over the limit of {limit}.", f"The operator set it with {setting}.", param=name
        )


def _check_storable(request: Request) -> None:
    """Free-form JSON may hold numbers that no store can (10**30): that is the client's mistake, not ours."""
    for name, value in (
        ("tools", request.tools),
        ("response_format", request.json_schema),
        ("chat_template_kwargs", request.template_kwargs),
    ):
        if value:
            storable(value, name)


def storable(value: object, name: str) -> None:
    """Raises `InvalidRequest` if `value` can't be encoded."""
    try:
        msgspec.msgpack.encode(value)
    except (OverflowError, ValueError, TypeError, RecursionError):
        raise InvalidRequest(f"{name} holds a number too large, or is nested too deep.", param=name) from None


def free_form(value: dict[str, Any] | None) -> Json:
    return dict(value or {})


__all__ = [
    "Body",
    "Refused",
    "SamplingFields",
    "StreamOptions",
    "Wire",
    "check_against",
    "free_form",
    "invalid",
    "parse",
    "pydantic",
]
