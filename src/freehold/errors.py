"""Every error Freehold raises on purpose, in one tree. Each says what, why and what to do next.

    FreeholdError
    ├── UsageError                     exit 2   a command was called wrongly
    ├── ConfigError                    exit 3   a setting is unknown or has a wrong value
    ├── ModelError                     exit 4   a model can't be found, read, converted or loaded
    ├── Unreachable                    exit 5   a server or URL doesn't answer
    ├── GaveUp                         exit 6   the supervisor stopped restarting a process
    ├── StoreError           503       exit 7   the ledger can't be opened, read or written
    │   └── StoreAway        503                just now: it is full, locked, or its server is away
    ├── CannotResume                            an engine can't go on after given tokens; its worker starts again
    └── RequestError                            a request ends with an HTTP status
        ├── InvalidRequest       400            malformed, out of range, or not supported here
        │   ├── UnsupportedParameter  400
        │   └── PromptTooLong    400
        ├── Unauthorized         401
        ├── Forbidden            403
        ├── NotFound             404
        │   └── ModelNotFound    404
        ├── Conflict             409
        ├── TooLarge             413
        ├── Overloaded           429            too much waits already
        │   └── KeyLimited       429            too much of this API key waits already
        ├── EngineFailed         500            the engine raised while answering
        ├── Poisoned             500            its workers died so often that it must be the cause
        ├── WorkerDied           502            the process died while answering
        ├── ResumeFailed         502            begun again, the answer differs from what was shown
        ├── Unavailable          503            nobody can take the request now
        ├── DeadlineUnmeetable   503            refused at once: it would not be answered in time
        └── DeadlinePassed       504            accepted, and then its deadline passed

Exit codes: 0 done; 1 any other error (a request that failed, a check of `freehold doctor`, a second signal);
2 to 7 as above; 130 interrupted.

One place turns them into HTTP (`gateway/errors.py`), one into terminal text (`cli/app.py`).
"""

from __future__ import annotations

from freehold.core import Failure


class FreeholdError(Exception):
    """Base. `what` happened, `why`, and what to do `next`; each a short sentence without a traceback."""

    code = "error"
    status = 500
    exit_code = 1
    retry_after_s: float | None = None
    """When the same request would go through; None: nobody knows, or never."""

    def __init__(self, what: str, why: str = "", next: str = "", *, param: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next
        self.param = param

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.next) if part)

    def failure(self) -> Failure:
        """The same error as data, to cross a process boundary."""
        return Failure(code=self.code, what=self.what, why=self.why, next=self.next, param=self.param)


class UsageError(FreeholdError):
    code = "usage"
    exit_code = 2


class ConfigError(FreeholdError):
    code = "config"
    exit_code = 3


class ModelError(FreeholdError):
    code = "model_error"
    exit_code = 4


class Unreachable(FreeholdError):
    code = "unreachable"
    status = 502
    exit_code = 5


class GaveUp(FreeholdError):
    code = "gave_up"
    exit_code = 6


class StoreError(FreeholdError):
    code = "store_error"
    status = 503
    exit_code = 7


class StoreAway(StoreError):
    """It heals: who needs the ledger waits, or tries again."""

    code = "store_away"
    retry_after_s = 1.0


class CannotResume(FreeholdError):
    """Never leaves the worker."""

    code = "cannot_resume"


class RequestError(FreeholdError):
    """Ends one request. `status` is the HTTP status; `code` is the `error.code` a client reads."""

    code = "request_error"


class InvalidRequest(RequestError):
    code = "invalid_request"
    status = 400


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class PromptTooLong(InvalidRequest):
    code = "context_length_exceeded"


class Unauthorized(RequestError):
    code = "invalid_api_key"
    status = 401


class Forbidden(RequestError):
    code = "forbidden"
    status = 403


class NotFound(RequestError):
    code = "not_found"
    status = 404


class ModelNotFound(NotFound):
    code = "model_not_found"


class Conflict(RequestError):
    code = "conflict"
    status = 409


class TooLarge(RequestError):
    code = "request_too_large"
    status = 413


class Overloaded(RequestError):
    code = "overloaded"
    status = 429
    retry_after_s = 1.0


class KeyLimited(Overloaded):
    code = "key_limited"


class EngineFailed(RequestError):
    code = "engine_failed"
    status = 500


class Poisoned(RequestError):
    code = "poisoned"
    status = 500


class WorkerDied(RequestError):
    code = "worker_died"
    status = 502


class ResumeFailed(RequestError):
    code = "resume_failed"
    status = 502


class Unavailable(RequestError):
    code = "unavailable"
    status = 503
    retry_after_s = 1.0


class DeadlineUnmeetable(RequestError):
    code = "deadline_unmeetable"
    status = 503


class DeadlinePassed(RequestError):
    code = "deadline_passed"
    status = 504


def _tree(root: type[FreeholdError]) -> dict[str, type[FreeholdError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_BY_CODE = _tree(FreeholdError)


def from_failure(failure: Failure) -> FreeholdError:
    """The exception that `failure` was made from; an unknown code gives `EngineFailed`."""
    kind = _BY_CODE.get(failure.code, EngineFailed)
    return kind(failure.what, failure.why, failure.next, param=failure.param)
