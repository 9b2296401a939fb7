"""What every request body has in common: strict types, no unknown field, sampling parameters.

pydantic only here, where strangers' data enters. A field that a peer API has and Freehold can't honour is declared
with type `Refused`: leaving it out or sending null is fine, anything else is a 400 that names it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from freehold.core import Json, Sampling

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


class Webhook(Wire):
    """Extension. Called when what was asked for in the background has ended."""

    url: str = Field(min_length=1, max_length=2048, description="http:// or https://, at a public address.")
    secret: str | None = Field(None, max_length=200, description="whsec_ and base64; else server.webhook_secret signs.")


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
    seed: int | None = Field(
        None, description="Equal seeds and parameters give equal answers, as far as the engine can."
    )
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


def free_form(value: dict[str, Any] | None) -> Json:
    return dict(value or {})
