"""On what terms a call is answered: its deadline and priority, from its headers and from its API key.

A deadline counts from the request's arrival. Priority is a number, smaller is sooner; nobody may ask for one that is
sooner than the key's own.
"""

from __future__ import annotations

from freehold.errors import Forbidden, InvalidRequest
from freehold.gateway.auth import LOCAL, PRIORITIES, Key
from freehold.gateway.body import header
from freehold.gateway.call import Call, HeaderList

DEADLINE = b"x-freehold-deadline-ms"
PRIORITY = b"x-freehold-priority"
MOST_MS = 7 * 24 * 3600 * 1000


def set_terms(call: Call, key: Key, headers: HeaderList) -> None:
    """Fill in `call.tenant`, `deadline_unix_s` and `priority`. Raises `InvalidRequest` or `Forbidden`."""
    call.tenant = key.id
    deadline_ms = _number(headers, DEADLINE, 1, MOST_MS) or key.deadline_ms
    if deadline_ms:
        call.deadline_unix_s = call.received_unix_s + deadline_ms / 1000.0
    asked = _number(headers, PRIORITY, PRIORITIES.start, PRIORITIES.stop - 1)
    call.priority = key.priority if asked is None else asked
    if call.priority < key.priority and key is not LOCAL:
        raise Forbidden(
            f"The priority {call.priority} is not yours to ask for.",
            f"Smaller is sooner, and this API key has {key.priority}.",
            f"Send {key.priority} or more in {PRIORITY.decode()}, or leave it out.",
            param=PRIORITY.decode(),
        )


def _number(headers: HeaderList, name: bytes, least: int, most: int) -> int | None:
    text = header(headers, name)
    if text is None:
        return None
    try:
        number = int(text) if len(text) < 20 else most + 1
    except ValueError:
        number = most + 1
    if not least <= number <= most:
        given = text[:40].decode("latin-1")
        raise InvalidRequest(
            f"The header {name.decode()} is {given!r}.", f"It takes a whole number from {least} to {most}.",
            "Correct it or leave it out.", param=name.decode(),
        )  # fmt: skip
    return number
