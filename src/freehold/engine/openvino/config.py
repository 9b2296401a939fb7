"""A request's sampling in openvino-genai's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from freehold.core import Request, Sampling
from freehold.engine.given import START, Place, fresh_seed
from freehold.engine.grammar import for_library
from freehold.engine.rest import grammar_at
from freehold.errors import CannotResume

if TYPE_CHECKING:
    from openvino_genai import GenerationConfig

_ALMOST_ONE = 1 - 1e-6


def generation_config(
    request: Request, choice: int, max_tokens: int, stop_ids: tuple[int, ...], random_seed: int, stands: Place = START
) -> GenerationConfig:
    """The pipeline's settings for one answer, of up to `max_tokens`, or for the rest of one. It ends at `stop_ids` too;
    stop strings are looked for elsewhere. Raises `CannotResume`,
    or `Complete` where the schema lets nothing follow."""
    from openvino_genai import GenerationConfig, StructuredOutputConfig

    sampling = request.sampling
    config = GenerationConfig()
    config.max_new_tokens = max_tokens - len(stands.ids)
    config.min_new_tokens = max(0, min(sampling.min_tokens, max_tokens) - len(stands.ids))
    config.ignore_eos = sampling.ignore_eos
    if stop_ids:
        config.eos_token_id = stop_ids[0]
    config.stop_token_ids = {*stop_ids, *sampling.stop_token_ids}
    config.logprobs = 1 if sampling.logprobs else 0
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.repetition_penalty = sampling.repetition_penalty
    if sampling.temperature > 0 and sampling.top_p > 0:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = min(sampling.min_p, _ALMOST_ONE)
        if sampling.top_k:
            config.top_k = sampling.top_k
        seed = random_seed if sampling.seed is None else sampling.seed + choice
        config.rng_seed = fresh_seed(seed, len(stands.ids)) % (1 << 63)
    if request.json_schema is not None:
        grammar = grammar_at(request.json_schema, stands)
        config.structured_output_config = (
            StructuredOutputConfig(grammar=grammar)
            if grammar
            else StructuredOutputConfig(json_schema=json.dumps(for_library(request.json_schema)))
        )
    return config


def refuse_what_counts(sampling: Sampling) -> None:
    """The pipeline counts only what it wrote itself: two penalties would forget what was given."""
    if sampling.presence_penalty or sampling.frequency_penalty:
        raise CannotResume("OpenVINO can't go on under a presence or frequency penalty.", "It wouldn't count the past.")
