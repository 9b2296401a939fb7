"""Those who read answers that go on without them: they are waited for, and sent away when the process can't wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from freehold.core import Failure


class Followers:
    """`fewer` is called whenever one has left."""

    def __init__(self, fewer: Callable[[], None]) -> None:
        self.cut: Failure | None = None
        """Once the process can't wait any longer: what they are told."""
        self._fewer = fewer
        self._wakes: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._wakes)

    @contextmanager
    def following(self, wake: Callable[[], None]) -> Iterator[None]:
        """Somebody reads a background answer meanwhile. `wake` is called when `cut` is set."""
        self._wakes.append(wake)
        try:
            yield
        finally:
            self._wakes.remove(wake)
            self._fewer()

    def cut_off(self, failure: Failure) -> None:
        """Send all of them away."""
        self.cut = failure
        for wake in list(self._wakes):
            wake()
