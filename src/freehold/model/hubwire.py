"""Talking to the hub: what commit a revision is, and one file's bytes, resumed where an earlier try stopped.

Built on huggingface_hub's requests (HF_ENDPOINT, HF_TOKEN, proxies, retries are its own); only the partial file
is ours, because `hf_hub_download` throws away what a killed process had fetched.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._headers import build_hf_headers

from freehold.errors import ModelError
from freehold.model.source import Report

TRANSPORT_ERRORS = (HfHubHTTPError.__mro__[1], OSError)
"""huggingface_hub's HTTP library changes its name between versions; its base error is this one's parent."""
SHA256_CHARS = 64


def resolve(repo: str, revision: str, base: Path) -> tuple[str, list[str]]:
    """The commit that `revision` (default branch if empty) is now, and the names of its files."""
    try:
        info = HfApi(endpoint=_endpoint()).model_info(repo, revision=revision or None, timeout=20.0)
    except Exception as error:
        raise _explained(error, repo, revision, base) from error
    if not info.sha:
        raise ModelError(
            f"The hub doesn't say which commit {repo} is at.", f"Asked {_where()}.", "Name one with --revision."
        )
    return info.sha, [entry.rfilename for entry in info.siblings or []]


def fetch(repo: str, name: str, commit: str, target: Path, base: Path, report: Report) -> None:
    """Download one file to `target`, going on from a part that is there already. Raises `ModelError`."""
    try:
        _fetch(repo, name, commit, target, report)
    except ModelError:
        raise
    except Exception as error:
        raise _explained(error, repo, commit, base) from error


def _fetch(repo: str, name: str, commit: str, target: Path, report: Report) -> None:
    url = hf_hub_url(repo, name, revision=commit, endpoint=_endpoint())
    found = get_hf_file_metadata(url, endpoint=_endpoint())
    headers = build_hf_headers()
    if urlsplit(found.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # the token is the hub's, not its storage's
    target.parent.mkdir(parents=True, exist_ok=True)
    tag = hashlib.sha256((found.etag or commit).encode()).hexdigest()[:16]
    part = target.with_name(f".{target.name}.{tag}.part")
    with part.open("ab") as stream:
        have = stream.tell()
        bar = _reporting(name, report)
        http_get(
            found.location,
            stream,
            resume_size=have,
            headers=headers,
            expected_size=found.size,
            tqdm_class=cast(Any, bar),
        )
    if found.etag and len(found.etag) == SHA256_CHARS and _sha256(part) != found.etag:
        part.unlink()
        raise ModelError(
            f"{name} of {repo} arrived damaged.", "Its SHA-256 isn't the hub's.", "Start again to fetch it anew."
        )
    part.replace(target)


def _reporting(name: str, report: Report) -> type:
    """A stand-in for tqdm that tells `report`."""

    class Bar:
        def __init__(self, *_: object, total: int | None = None, initial: int = 0, **__: object) -> None:
            self.done, self.total = initial, total or 0

        def update(self, size: int) -> None:
            self.done += size
            report(f"downloading {name}", self.done, self.total)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    return Bar


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _where() -> str:
    return _endpoint() or "https://huggingface.co"


def _explained(error: Exception, repo: str, revision: str, base: Path) -> ModelError:
    """What went wrong and what to do. An exception that isn't about the network is raised as it is."""
    if isinstance(error, RevisionNotFoundError):
        return ModelError(f"{repo} has no revision {revision!r}.", next="Name a branch, tag or commit that it has.")
    if isinstance(error, RemoteEntryNotFoundError):
        return ModelError(f"A file of {repo} is gone.", f"{error}".split("\n")[0], f"Remove {base} and start again.")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, GatedRepoError) or status in (401, 403):
        return _refused(repo, status)
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return ModelError(
            f"There is no model {repo} at {_where()}.",
            "Or it is private and the token isn't its owner's.",
            "Check the name; for a private one set HF_TOKEN.",
        )
    if isinstance(error, OSError) and error.strerror and (error.filename or error.errno == errno.ENOSPC):
        return ModelError(
            f"Can't write below {base}.", f"{error.strerror}.", "Make room, or set FREEHOLD_HOME elsewhere."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return _unreachable(repo, base, "HF_HUB_OFFLINE forbids it")
    if isinstance(error, TRANSPORT_ERRORS):
        return _unreachable(repo, base, str(error).split("\n")[0] or type(error).__name__)
    raise error


def _refused(repo: str, status: int) -> ModelError:
    has_token = "authorization" in build_hf_headers()
    return ModelError(
        f"The hub refuses {repo} (HTTP {status}).",
        "The token given has no access to it."
        if has_token
        else "It is gated, private or misspelt, and no token was given.",
        f"Accept its terms at {_where()}/{repo}, then set HF_TOKEN to a token that may read it.",
    )


def _unreachable(repo: str, base: Path, why: str) -> ModelError:
    return ModelError(
        f"Can't reach the hub for {repo}.",
        f"{_where()}: {why.rstrip('.')}. A part that was fetched is kept and goes on from there.",
        "Try again, set HF_ENDPOINT to a mirror, or copy the model's files from another machine and name their folder.",
    )
