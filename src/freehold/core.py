"""The nouns every other file speaks in: what is asked, what comes back, who does it.

Frozen records only, no behaviour and no I/O. They are `msgspec.Struct`s because all of them cross a
process boundary (gateway, ledger, worker) and some are made once a token: a Struct is created and
encoded several times faster than a dataclass. Units are in the names.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Json = dict[str, Any]
"""A decoded JSON object whose keys a stranger chose."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every noun: immutable, keyword-only, defaults left out on the wire."""


# ---- what is asked -------------------------------------------------------------------------------

Kind = Literal["chat", "text", "embed"]


MADE_SEEDS = 1 << 62
"""Seeds from here on were made up by the gateway: nobody asked for them, so a remote isn't asked for them either."""


class Sampling(Record, frozen=True):
    """How tokens are chosen and when to stop. Defaults are OpenAI's; an unset value changes nothing."""

    max_tokens: int | None = None
    """None: until the model stops or its context is full."""
    min_tokens: int = 0
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 is off."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: bool = False
    """Give the log-probability of each generated token."""
    top_logprobs: int = 0
    """How many alternatives to give with each."""
    logit_bias: dict[int, float] = {}


class Request(Record, frozen=True):
    """One accepted piece of work, as it lies in the ledger. `n` answers share one prompt."""

    id: str
    model: str
    kind: Kind
    messages: tuple[Json, ...] = ()
    """Chat: OpenAI-shaped messages, content already flattened to plain strings (kind `chat`)."""
    prompt: str | tuple[int, ...] = ""
    """Text or token ids, taken as they are (kind `text`)."""
    inputs: tuple[str, ...] = ()
    """Texts to embed (kind `embed`)."""
    tools: tuple[Json, ...] = ()
    """OpenAI function tools, for the model's chat template."""
    json_schema: Json | None = None
    """The answer must be a JSON text that satisfies this schema; `{}` allows any JSON object."""
    template_kwargs: Json = {}
    """Extra variables for the chat template."""
    sampling: Sampling = Sampling()
    n: int = 1
    tenant: str = "local"
    """Id of the API key that asked; `local` without keys."""
    priority: int = 0
    """Smaller is sooner."""
    received_unix_s: float = 0.0
    deadline_unix_s: float | None = None
    keep: bool = False
    """Keep prompt and result in the ledger after the end, so that they can be fetched by id."""
    meta: Json = {}
    """What the gateway needs to answer for this request later (never read by a worker)."""
    traceparent: str = ""
    """The trace it belongs to, where its client said so (W3C Trace Context)."""
    idempotency_key: str | None = None
    """The same tenant's same key within a day means the same request."""
    fingerprint: str = ""
    """Digest of the body that came with the key: another body under the same key is a conflict."""
    gateway: str = ""
    """Which one's client asked, where there are several: it is told of the answer unasked."""


# ---- what comes back -----------------------------------------------------------------------------

FinishReason = Literal["stop", "length", "content_filter", "cancelled", "error"]
"""`content_filter` comes from a remote only: it held back the rest."""


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """One generated token with its log-probability (natural log) and the best alternatives."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple[tuple[str, float], ...] = ()


class Usage(Record, frozen=True):
    """Token counts of one request. `prompt_tokens` counts the prompt once, however many answers."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Failure(Record, frozen=True):
    """An error on its way between processes; `errors.from_failure` makes it an exception again."""

    code: str
    what: str
    why: str = ""
    next: str = ""
    param: str | None = None


class Chunk(msgspec.Struct, array_like=True, gc=False):
    """What one step added to one answer. Made once a token: keep it small.

    `offset` is the number of completion tokens before this chunk, so that a reader can tell a repeat
    or a gap. `tokens` is how many tokens it carries (0 when only the end is told, and text may be empty
    while a multi-token character is incomplete). `finish` is set exactly once, on the last chunk.
    """

    id: str
    choice: int
    offset: int
    tokens: int
    text: str
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish: FinishReason | None = None
    usage: Usage | None = None
    failure: Failure | None = None
    stop: str | int | None = None
    """The stop string or token id that ended it, if one did."""
    embeddings: tuple[tuple[float, ...], ...] | None = None
    """kind `embed`: one vector for each input, on the last chunk."""
    ids: tuple[int, ...] = ()
    """The token ids behind `tokens`, with which another worker can go on; empty where the engine hides them."""


class Answer(Record, frozen=True):
    """The whole of one choice, as kept in the ledger."""

    text: str = ""
    finish: FinishReason = "stop"
    logprobs: tuple[TokenLogprob, ...] | None = None
    stop: str | int | None = None


class Result(Record, frozen=True):
    """The one final outcome of a request: its answers, or the failure that ended it."""

    answers: tuple[Answer, ...] = ()
    usage: Usage = Usage()
    failure: Failure | None = None
    cancelled: bool = False
    embeddings: tuple[tuple[float, ...], ...] | None = None
    worker: str = ""
    queued_ms: float = 0.0
    """From accepted to claimed."""
    first_token_ms: float | None = None
    """From accepted to the first token leaving the worker."""
    total_ms: float = 0.0


# ---- who does it ---------------------------------------------------------------------------------

Phase = Literal["download", "convert", "map", "compile", "warmup"]


class LoadPhase(Record, frozen=True):
    """One timed part of loading a model."""

    name: Phase
    seconds: float
    detail: str = ""


class CardPace(Record, frozen=True):
    """How fast a worker is by its profile, until what it does says it better."""

    step_ms: float
    """A step of a full batch."""
    lone_step_ms: float
    """A step of one sequence."""
    prefill_ms_per_token: float


class ModelCard(Record, frozen=True):
    """What a worker says about the model it has loaded; the gateway decides with nothing else."""

    name: str
    engine: str
    source: str
    """Where the weights came from, in words a person understands."""
    context_tokens: int
    """0: not known (a remote that doesn't say)."""
    max_batch: int
    """Sequences the engine runs at once."""
    max_batch_from: str = ""
    """Where that came from, in words; empty: the engine's own."""
    quantization: str = ""
    weight_bytes: int = 0
    parameters: int = 0
    kv_bytes_per_token: int = 0
    chat: bool = True
    """It has a chat template."""
    tools: Literal["none", "hermes", "llama3", "mistral"] = "none"
    """How this model writes a tool call, read from its chat template."""
    embeddings: bool = False
    unsupported: tuple[str, ...] = ()
    """Request parameters this engine can't honour (their `Request`/`Sampling` field names)."""
    max_top_logprobs: int = 0
    phases: tuple[LoadPhase, ...] = ()
    memory_bytes: int = 0
    """Resident memory of the worker once loaded."""
    threads: int = 0
    versions: dict[str, str] = {}
    revision: str = ""
    created_unix_s: int = 0
    pace: CardPace | None = None
    """From a profile; None without one."""
    bandwidth_bytes_per_s: float = 0.0
    """Of the memory it runs from, by its profile; 0 without one."""


WorkerState = Literal["starting", "loading", "ready", "busy", "draining", "hung", "stopped", "dead"]
"""hung: it lives, but has not moved for longer than its work can take. stopped: it left because it was told to."""


class WorkerStatus(Record, frozen=True):
    """One row of `freehold workers`."""

    name: str
    pid: int
    state: WorkerState
    model: str = ""
    engine: str = ""
    running: int = 0
    """Answers being generated now."""
    restarts: int = 0
    """Since `since_unix_s`, when its supervisor began."""
    since_unix_s: float = 0.0
    phase: str = ""
    """While loading: which part."""
    memory_bytes: int = 0
    last_error: str = ""
    steps: int = 0
    tokens: int = 0
    kv_usage: float | None = None
    """Share of the KV cache in use, 0 to 1; None where the engine hides it, or before it is ready."""
    variant: str = ""
    """Where the weights behind the model's name came from."""
    lots: tuple[int, int] = (0, 100)
    step_limit_ms: float | None = None
    """What it is doing may take this long before it counts as hung; None while it loads."""
    memory_limit_bytes: int = 0


class StepRecord(msgspec.Struct, frozen=True, array_like=True):
    """One step of an engine, as its worker remembers it. None where the engine's library hides the figure."""

    prefill_tokens: int | None
    """Prompt tokens read."""
    running: int
    """Sequences that took part."""
    context_tokens: int | None
    """Sum of their context lengths."""
    tokens: int
    """Tokens given out."""
    step_ms: float
    gap_ms: float | None
    """Since the step before; None after a pause without work."""
