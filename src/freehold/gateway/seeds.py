"""Seeds for requests without one, so that an answer that has to be made again is made of the same tokens."""

from __future__ import annotations

import secrets

import msgspec

from freehold.core import MADE_SEEDS, Request


def seeded(request: Request, gateway: str = "") -> Request:
    """A request without a seed gets one, so that it makes the same tokens if it has to be made again. Where there are
    several gateways, it says whose it is."""
    if gateway:
        request = msgspec.structs.replace(request, gateway=gateway)
    if request.kind == "embed" or request.sampling.seed is not None:
        return request
    sampling = msgspec.structs.replace(request.sampling, seed=MADE_SEEDS + secrets.randbelow(MADE_SEEDS // 2))
    return msgspec.structs.replace(request, sampling=sampling)
