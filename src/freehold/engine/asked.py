"""What a request asks of an engine with a real model, checked: its parameters, its prompt, its room in the context.

Both real engines use it, so that they refuse the same things with the same words.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import msgspec

from freehold.core import ModelCard, Request, Sampling
from freehold.engine.schema import check_schema
from freehold.errors import InvalidRequest, PromptTooLong, UnsupportedParameter
from freehold.model.template import ChatTemplate

_RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, math.inf),
    "min_tokens": (0, math.inf),
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, math.inf),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0.01, 100),
    "top_logprobs": (0, math.inf),
}
_MOST_STOPS = 64
_PLAIN = Sampling()


def check(request: Request, card: ModelCard, vocabulary_tokens: int) -> None:
    """Raises `InvalidRequest` or `UnsupportedParameter`, naming the parameter, unless `card`'s engine can honour it."""
    if request.kind == "embed":
        raise InvalidRequest("Embeddings are asked for with `embed`, not `add`.", param="kind")
    if request.kind == "chat" and not card.chat:
        why = "Its files have no chat template."
        raise InvalidRequest("This model can't chat.", why, "Use /v1/completions.", param="messages")
    sampling = request.sampling
    _check_supported(request, card)
    for name, (low, high) in _RANGES.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:  # also false for NaN
            limit = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
            raise InvalidRequest(f"{name} is {value!r}.", f"It must be {limit}.", param=name)
    if len(sampling.stop) > _MOST_STOPS or "" in sampling.stop:
        raise InvalidRequest(f"stop takes up to {_MOST_STOPS} texts, none of them empty.", param="stop")
    _check_ids("stop_token_ids", sampling.stop_token_ids, vocabulary_tokens)
    _check_ids("logit_bias", sampling.logit_bias, vocabulary_tokens)
    if request.json_schema is not None:
        check_schema(request.json_schema)
        for name in ("ignore_eos", "min_tokens"):
            if getattr(sampling, name):
                why = "An answer that follows a JSON schema ends where its JSON ends."
                raise InvalidRequest(f"{name} can't be combined with a JSON schema.", why, "Leave it out.", param=name)


def _check_supported(request: Request, card: ModelCard) -> None:
    sampling = request.sampling
    for name in card.unsupported:
        for part, plain in ((sampling, _PLAIN), (request, None)):
            if name in part.__struct_fields__ and getattr(part, name) != _default(part, name, plain):
                raise _unsupported(name, card, "Leave it out, or serve the model with another engine.")
    if sampling.top_logprobs > card.max_top_logprobs:
        most = f"At most {card.max_top_logprobs}." if card.max_top_logprobs else "Ask for logprobs alone."
        raise _unsupported("top_logprobs", card, most)


def _default(part: msgspec.Struct, name: str, plain: Sampling | None) -> Any:
    if plain is not None:
        return getattr(plain, name)
    return next(field.default for field in msgspec.structs.fields(part) if field.name == name)


def _unsupported(name: str, card: ModelCard, next: str) -> UnsupportedParameter:
    return UnsupportedParameter(f"The {card.engine} engine can't honour {name}.", next=next, param=name)


def _check_ids(name: str, ids: Collection[int], vocabulary_tokens: int) -> None:
    if wrong := [id for id in ids if not 0 <= id < vocabulary_tokens]:
        why = f"{wrong[0]} isn't; the model has tokens 0 to {vocabulary_tokens - 1}."
        raise InvalidRequest(f"{name} has ids that are no tokens.", why, param=name)


def prompt_of(request: Request, template: ChatTemplate | None, vocabulary_tokens: int) -> str | tuple[int, ...]:
    """The prompt as text (rendered, for a chat) or as token ids. Raises `InvalidRequest`."""
    prompt = request.prompt
    if request.kind == "chat":
        if template is None or not request.messages:
            raise InvalidRequest("There are no messages to answer.", param="messages")
        prompt = template.render(request.messages, request.tools, request.template_kwargs)
    param = param_of(request)
    if not prompt:
        raise InvalidRequest("The prompt is empty.", "There is nothing to go on from.", param=param)
    if isinstance(prompt, str):
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest("The prompt isn't valid Unicode.", f"{error.reason}.", param=param) from error
    else:
        _check_ids(param, prompt, vocabulary_tokens)
    return prompt


def param_of(request: Request) -> str:
    """The parameter that an error about the prompt names."""
    return "messages" if request.kind == "chat" else "prompt"


def room(request: Request, prompt_tokens: int, context_tokens: int) -> int:
    """How many tokens the answer may have: `max_tokens`, cut to what the context leaves. Raises `PromptTooLong`."""
    left = context_tokens - prompt_tokens
    if left < 1:
        raise PromptTooLong(
            f"The prompt has {prompt_tokens} tokens.",
            f"The context holds {context_tokens}, the answer included.",
            "Shorten it, or leave out earlier messages.",
            param=param_of(request),
        )
    asked = request.sampling.max_tokens
    return left if asked is None else min(asked, left)
