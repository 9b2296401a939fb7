"""OpenAI's HTTP wire as the `remote` engine speaks it: requests into bodies, refusals into errors. Pure."""

from __future__ import annotations

import email.utils
from typing import Any

import msgspec

from freehold.core import MADE_SEEDS, Json, Request, Sampling
from freehold.errors import EngineFailed, InvalidRequest, Overloaded, PromptTooLong, RequestError, TooLarge, Unavailable

EXTENSIONS = ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos")
"""Not OpenAI's: sent only when set, so that a server without them is still served."""
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 8.0
_LONGEST_QUOTE = 400


def base_url(url: str) -> str:
    """The API's root for what a person typed: with or without `/v1`, or an endpoint pasted whole. What
    follows a `#` names a model and is no part of it."""
    url = url.partition("#")[0].rstrip("/")
    for ending in ("/chat/completions", "/completions", "/embeddings", "/models"):
        url = url.removesuffix(ending)
    scheme, found, rest = url.partition("://")
    if not found:
        scheme, rest = "http", url
    return f"{scheme}://{rest}" if "/" in rest else f"{scheme}://{rest}/v1"


def path_and_body(request: Request, choice: int, model: str, tokens_field: str) -> tuple[str, Json]:
    """The endpoint and the body that ask for answer number `choice`."""
    body: Json = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= _sampling(request, choice, tokens_field)
    if request.json_schema is not None:
        body["response_format"] = _response_format(request.json_schema)
    if request.kind == "text":
        return "/completions", body | {"prompt": request.prompt}
    body["messages"] = list(request.messages)
    if request.tools:
        body["tools"] = list(request.tools)
        if request.json_schema is not None:
            # The schema decides what is written; a tool call of the remote's own would get past it.
            body["tool_choice"] = "none"
    if request.template_kwargs:
        body["chat_template_kwargs"] = request.template_kwargs
    return "/chat/completions", body


def _sampling(request: Request, choice: int, tokens_field: str) -> Json:
    sampling = request.sampling
    fields: Json = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.max_tokens is not None:
        fields[tokens_field if request.kind == "chat" else "max_tokens"] = sampling.max_tokens
    if sampling.seed is not None and sampling.seed < MADE_SEEDS:
        fields["seed"] = sampling.seed + choice
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    for name in ("presence_penalty", "frequency_penalty", *EXTENSIONS):
        value = getattr(sampling, name)
        if value != _DEFAULTS[name]:
            fields[name] = value
    if sampling.logprobs:
        top = sampling.top_logprobs
        fields |= {"logprobs": True, "top_logprobs": top} if request.kind == "chat" else {"logprobs": top}
    return fields


_DEFAULTS: Json = {name: getattr(Sampling(), name) for name in Sampling.__struct_fields__}


def _response_format(schema: Json) -> Json:
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


# ---- refusals -----------------------------------------------------------------------------------


class Refusal(msgspec.Struct, frozen=True):
    """What the remote said instead of an answer."""

    message: str
    param: str | None = None
    code: str = ""


def read_refusal(body: bytes, key: str) -> Refusal:
    """The message of an error body in OpenAI's shape, or whatever the body is, without Freehold's key in it."""
    try:
        error: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = body.decode("utf-8", "replace").strip()
    if isinstance(error, dict):
        error = error.get("error") or error.get("detail") or error
    return refusal_of(error, key)


def refusal_of(error: object, key: str) -> Refusal:
    """The same from the value of an `error` field."""
    if isinstance(error, dict):
        param = error.get("param")
        text, code = str(error.get("message") or error), str(error.get("code") or error.get("type") or "")
    else:
        text, param, code = str(error), None, ""
    quoted = _clean(text, key)
    return Refusal(quoted, param if isinstance(param, str) else None, code)


def _clean(text: str, key: str) -> str:
    """One line of bounded length, the key blotted out."""
    text = " ".join(text.replace(key, "***").split()) if key else " ".join(text.split())
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."


def is_passing(status: int) -> bool:
    """True if asking again may help."""
    return status in (408, 409, 425, 429) or status >= 500


def error_of(status: int, refusal: Refusal, where: str) -> RequestError:
    """The error that a refusal with this HTTP status means for the request."""
    said = f"It said: {refusal.message}" if refusal.message else ""
    match status:
        case 400 | 422:
            too_long = "context_length" in refusal.code or "maximum context length" in refusal.message
            kind = PromptTooLong if too_long else InvalidRequest
            return kind(refusal.message or f"{where} refused the request.", param=refusal.param)
        case 401 | 403:
            return EngineFailed(f"{where} refused Freehold's key.", said, "Set FREEHOLD_ENGINE_REMOTE_KEY and restart.")
        case 404:
            return EngineFailed(f"{where} doesn't know the model or the endpoint.", said, "Ask it for GET /models.")
        case 413:
            return TooLarge(refusal.message or f"{where} found the request too large.", param=refusal.param)
        case 429:
            return Overloaded(f"{where} is overloaded.", said, "Try again later.")
        case 503:
            return Unavailable(f"{where} can't answer now.", said, "Try again later.")
    return EngineFailed(f"{where} failed with status {status}.", said)


# ---- trying again --------------------------------------------------------------------------------


def backoff_s(tried: int, asked_s: float | None, chance: float) -> float:
    """Seconds before the next try: what the remote asked for, else doubling, with full jitter over the upper half."""
    if asked_s is not None:
        return asked_s
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**tried) * (0.5 + 0.5 * chance)


def retry_after_s(header: str | None, now_unix_s: float) -> float | None:
    """A Retry-After header, in seconds or as a date; None if there is none that can be read."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now_unix_s)
    except ValueError:
        return None
