"""One process at a time: who starts together with others converts or downloads once, and the others wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Hold `file` (made if need be, left behind) against other processes and threads; freed by any kind of end.

    Where there is no `flock` (Windows) everyone goes ahead: results are renamed into place, so the last one wins.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
