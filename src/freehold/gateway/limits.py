"""What this server and this model can honour: anything else is refused by name, before a request is accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from freehold.core import ModelCard, Request, Sampling
from freehold.errors import InvalidRequest, UnsupportedParameter
from freehold.settings import ServerConfig

_WIRE_NAMES = {"json_schema": "response_format", "template_kwargs": "chat_template_kwargs"}


def check_against(
    card: ModelCard, request: Request, server: ServerConfig, *, names: Mapping[str, str] | None = None
) -> None:
    """Refuse what this server or this model can't honour. `names`: request fields the caller calls differently."""
    spoken = _WIRE_NAMES | dict(names or {})
    sampling = request.sampling
    _at_most(request.n, server.max_n, "n", "server.max_n")
    if sampling.max_tokens is not None:
        _at_most(
            sampling.max_tokens,
            server.max_output_tokens,
            spoken.get("max_tokens", "max_tokens"),
            "server.max_output_tokens",
        )
    for field in card.unsupported:
        owner, default = (sampling, Sampling()) if field in Sampling.__struct_fields__ else (request, _BARE)
        if field in owner.__struct_fields__ and getattr(owner, field) != getattr(default, field):
            name = spoken.get(field, field)
            raise UnsupportedParameter(
                f"The parameter {name!r} is not supported by the engine {card.engine!r}.",
                next="Leave it out.",
                param=name,
            )
    if sampling.top_logprobs > card.max_top_logprobs:
        name = spoken.get("top_logprobs", "top_logprobs")
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


@contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """What an engine refuses later, it names as the ledger does; inside this, the client's own name is told."""
    try:
        yield
    except InvalidRequest as error:
        every = _WIRE_NAMES | dict(names)
        error.param = every.get(error.param or "", error.param)
        raise
