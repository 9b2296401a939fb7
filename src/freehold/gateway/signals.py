"""What a gateway is told by signals: drain, hurry, retire."""

from __future__ import annotations

import asyncio
import signal


class Signals:
    """SIGTERM and SIGINT: the first asks to drain, the second insists. SIGUSR1: another has taken over."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.retire = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.retire.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._came)

    def release(self) -> None:
        """Whoever waits for one goes on."""
        self.first.set()
        self.retire.set()

    def _came(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
