"""What can be asked about the server itself: models, health, workers, figures."""

from __future__ import annotations

import json
import time
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import Query

from freehold import __version__
from freehold.core import Json, ModelCard
from freehold.errors import ModelNotFound
from freehold.gateway.desk import Desk
from freehold.gateway.telemetry_views import facts
from freehold.model_status import ModelState, ModelStatus

STARTER = "the built-in starter"
"""What the card of the starter says it came from."""
LAST_STEPS = 100
Last = Annotated[int, Query(ge=1, le=4096, description="How many steps, the newest.")]
"""A worker keeps 4096."""


def model_object(card: ModelCard, state: ModelState) -> Json:
    """One entry of /v1/models."""
    return {
        "id": card.name,
        "object": "model",
        "created": card.created_unix_s,
        "owned_by": "freehold",
        "engine": card.engine,
        "source": card.source,
        "context_tokens": card.context_tokens or None,
        "quantization": card.quantization,
        "parameters": card.parameters,
        "chat": card.chat,
        "tools": card.tools != "none",
        "embeddings": card.embeddings,
        "state": state,
    }


def _models(desk: Desk) -> dict[str, Json]:
    """All that can be asked for, by name. Of one that was never loaded yet, little is known."""
    found = {name: model_object(card, _state(desk, name)) for name, card in desk.fleet.models().items()}
    for offer in desk.fleet.offers.all():
        found.setdefault(offer.name, _unseen(offer))
    return dict(sorted(found.items()))


def _state(desk: Desk, name: str) -> ModelState:
    known = next((offer.state for offer in desk.fleet.offers.all() if offer.name == name), None)
    return known or ("loaded" if desk.fleet.crew(name) else "loading")


def _unseen(offer: ModelStatus) -> Json:
    told = {"id": offer.name, "object": "model", "created": 0, "owned_by": "freehold"}
    unknown = ("context_tokens", "quantization", "parameters", "chat", "tools", "embeddings")
    more = {"engine": offer.engine, "source": offer.source, "state": offer.state}
    return told | more | dict.fromkeys(unknown)


def model_list(desk: Desk) -> Json:
    return {"object": "list", "data": list(_models(desk).values())}


def one_model(desk: Desk, name: str) -> Json:
    models = _models(desk)
    if name not in models:
        raise ModelNotFound(
            f"The model {name!r} is not served here.", next="GET /v1/models lists what is.", param="model"
        )
    return models[name]


def readiness(desk: Desk) -> tuple[int, Json]:
    """Status and body of /readyz: ready when a request sent now would be worked on."""
    told: Json = {"workers": dict(Counter(row.state for row in desk.fleet.workers()))}
    if desk.fleet.offers:
        told["models"] = {name: model["state"] for name, model in _models(desk).items()}
    if desk.draining:
        return 503, {"status": "not_ready", "reason": "The server is shutting down.", **told}
    ready = desk.fleet.ready()
    status = "ready" if ready else "not_ready"
    return 200 if ready else 503, {"status": status, "reason": desk.fleet.why_not_ready(), **told}


def worker_list(desk: Desk) -> Json:
    """Every field of each worker, also those at their defaults; and the models that come and go."""
    rows = [{name: getattr(row, name) for name in row.__struct_fields__} for row in desk.fleet.workers()]
    return {"workers": rows, "models": [_turn_taker(desk, offer) for offer in desk.fleet.offers.all()]}


def _turn_taker(desk: Desk, offer: ModelStatus) -> Json:
    failure = offer.failure
    waiting = sum(desk.inboxes[id].request.model == offer.name for id in desk.waiting_ids if id in desk.inboxes)
    return {
        "name": offer.name,
        "state": offer.state,
        "waiting": waiting,
        "memory_bytes": offer.memory_bytes,
        "load_s": round(offer.load_s, 3),
        "last_error": "" if failure is None else f"{failure.what} {failure.why}".rstrip(),
    }


async def step_list(desk: Desk, name: str, last: int) -> Json:
    """The newest `last` steps of one worker. What its engine hides is null."""
    steps = await desk.fleet.steps(name, last)
    return {
        "worker": name,
        "steps": [{field: getattr(step, field) for field in step.__struct_fields__} for step in steps],
    }


def info(desk: Desk, keys_required: bool) -> Json:
    server = desk.server
    return {
        "name": "freehold",
        "version": __version__,
        "keys_required": keys_required,
        "models": [_card(card, _state(desk, name)) for name, card in sorted(desk.fleet.models().items())],
        "limits": {
            "max_body_bytes": server.max_body_bytes,
            "max_output_tokens": server.max_output_tokens,
            "max_n": server.max_n,
            "max_queue": server.max_queue,
        },
        "examples": _examples() if any(card.source == STARTER for card in desk.fleet.models().values()) else [],
        "queued": desk.waiting,
        "running": desk.running,
        "accepted": desk.accepted,
        "uptime_s": round(time.monotonic() - desk.began_s, 3),
    }


@cache
def _examples() -> list[Json]:
    """Messages the starter knows, for the page to suggest."""
    text = (files("freehold") / "starter" / "examples.json").read_text(encoding="utf-8")
    told: list[Json] = json.loads(text)
    return told


def _card(card: ModelCard, state: ModelState) -> Json:
    names = (
        "max_batch",
        "weight_bytes",
        "kv_bytes_per_token",
        "memory_bytes",
        "threads",
        "revision",
        "max_top_logprobs",
    )
    phases = [{"name": phase.name, "seconds": phase.seconds, "detail": phase.detail} for phase in card.phases]
    told: Json = {name: getattr(card, name) for name in names}
    return {
        **model_object(card, state),
        **told,
        "unsupported": list(card.unsupported),
        "versions": card.versions,
        "phases": phases,
    }


def metrics_text(desk: Desk) -> bytes:
    rows = desk.fleet.workers()
    return desk.metrics.text(
        facts=facts(desk),
        queued=desk.waiting,
        running=desk.running,
        worker_states=[row.state for row in rows],
        kv_usage={row.name: row.kv_usage for row in rows if row.kv_usage is not None},
    )
