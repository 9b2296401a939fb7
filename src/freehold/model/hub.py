"""Models from the hub: only the files needed, into `home/models`, pinned to one commit, resumable.

`pins.json` beside the files says which commit each asked revision meant the first time, and which files it took;
from then on that copy is used, with or without network, until the pin is removed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

from freehold.core import Json
from freehold.errors import ModelError
from freehold.model.hubfiles import wanted_files
from freehold.model.hubwire import fetch, resolve
from freehold.model.lock import one_at_a_time
from freehold.model.source import Report, Source, from_path
from freehold.model.tokenizer import read_json


def download(repo: str, *, file: str = "", revision: str = "", home: Path, report: Report) -> Source:
    """`repo` (org/name) on disk, downloaded when it isn't. Raises `ModelError` that says what to do.

    `file` names one GGUF of the repository; `revision` a branch, tag or commit, else the default branch.
    """
    base = home / "models" / repo.replace("/", "--")
    pins = base / "pins.json"
    key = "|".join((revision or "default", file))
    pin = _pinned(pins, key)
    if pin is None or _missing(base, pin):
        try:
            base.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(base / ".lock"):
                pin = _fetched(repo, file, revision, pins, key, report)
        except OSError as error:
            raise ModelError(
                f"Can't write below {base}.", f"{error.strerror}.", "Make room, or set FREEHOLD_HOME to another disk."
            ) from error
    return _source(repo, base / str(pin["commit"]), pin)


def _fetched(repo: str, file: str, revision: str, pins: Path, key: str, report: Report) -> Json:
    base = pins.parent
    pin = _pinned(pins, key)  # again: another process may have been here meanwhile
    if pin is None:
        commit, names = resolve(repo, revision, base)
        pin = {"commit": commit, "files": wanted_files(repo, names, file)}
        _write_pin(pins, key, pin)
    for name in _missing(base, pin):
        fetch(repo, name, str(pin["commit"]), base / str(pin["commit"]) / PurePosixPath(name), base, report)
    return pin


def _missing(base: Path, pin: Json) -> list[str]:
    folder = base / str(pin["commit"])
    return [str(name) for name in pin["files"] if not (folder / PurePosixPath(name)).is_file()]


def _source(repo: str, folder: Path, pin: Json) -> Source:
    commit = str(pin["commit"])
    files = [str(name) for name in pin["files"]]
    name = repo.partition("/")[2]
    label = f"hub {repo} at {commit[:7]}"
    path = folder / PurePosixPath(files[0]) if files[0].endswith(".gguf") else folder
    return from_path(path, label=label, name=name, revision=commit)


def _pinned(pins: Path, key: str) -> Json | None:
    pin = (read_json(pins) if pins.is_file() else {}).get(key)
    return pin if isinstance(pin, dict) and pin.get("commit") and pin.get("files") else None


def _write_pin(pins: Path, key: str, pin: Json) -> None:
    known = read_json(pins) if pins.is_file() else {}
    draft = pins.with_suffix(f".{os.getpid()}.part")
    draft.write_text(json.dumps(known | {key: pin}, indent=2) + "\n", encoding="utf-8")
    draft.replace(pins)
