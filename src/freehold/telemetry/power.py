"""What the machine draws and its GPUs do, where it tells: RAPL for processors, NVML for NVIDIA's GPUs. Else None.

RAPL's counters are files that often only root may read; NVML is read with the optional `nvidia-ml-py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from freehold.clock import Clock, SystemClock
from freehold.core import Record

POWERCAP = Path("/sys/class/powercap")


class GpuReading(Record, frozen=True):
    """One GPU as its driver tells it. Shares are of the last sample period of the driver."""

    name: str
    busy: float
    """Share of the time in which a kernel ran: it says little of how much is left."""
    memory_busy: float
    """Share of the time in which memory was read or written: the one to watch while tokens are made."""
    memory_used_bytes: int
    memory_bytes: int
    power_w: float | None = None


class Rapl:
    """Watts of all processor packages, from their energy counters, since the last look."""

    def __init__(self, folder: Path = POWERCAP, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._packages = sorted(each for each in folder.glob("intel-rapl:*") if each.name.count(":") == 1)
        self._last: tuple[float, list[int]] | None = None
        self.watts()

    def watts(self) -> float | None:
        """None where nothing can be read, or at the first look."""
        now_s, told = self._clock.monotonic_s(), _numbers(each / "energy_uj" for each in self._packages)
        before, self._last = self._last, None if told is None else (now_s, told)
        if before is None or told is None or now_s <= before[0]:
            return None
        ranges = _numbers(each / "max_energy_range_uj" for each in self._packages) or [0] * len(told)
        spent_uj = 0
        for old, new, span in zip(before[1], told, ranges, strict=True):
            spent_uj += new - old if new >= old else new - old + span  # the counter begins anew
        return spent_uj / 1e6 / (now_s - before[0])


class Gpus:
    """NVIDIA's GPUs, where there are some and `nvidia-ml-py` is installed."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:  # no driver, no GPU
            return
        self._nvml = pynvml

    def read(self) -> tuple[GpuReading, ...]:
        """Nothing without GPUs, or when the driver doesn't answer."""
        if self._nvml is None:
            return ()
        try:
            return tuple(self._one(handle) for handle in self._handles)
        except self._nvml.NVMLError:
            return ()

    def _one(self, handle: Any) -> GpuReading:
        nvml = self._nvml
        name = nvml.nvmlDeviceGetName(handle)
        use, memory = nvml.nvmlDeviceGetUtilizationRates(handle), nvml.nvmlDeviceGetMemoryInfo(handle)
        try:
            power_w = nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0
        except nvml.NVMLError:  # not every GPU has a meter
            power_w = None
        return GpuReading(
            name=name.decode() if isinstance(name, bytes) else str(name), busy=use.gpu / 100.0,
            memory_busy=use.memory / 100.0, memory_used_bytes=int(memory.used), memory_bytes=int(memory.total),
            power_w=power_w,
        )  # fmt: skip


class Meters:
    """All meters together; `look` once a slot."""

    def __init__(self) -> None:
        self._rapl, self._nvml = Rapl(), Gpus()
        self.gpus: tuple[GpuReading, ...] = ()
        self.power_w: float | None = None
        """Of processors and GPUs, as far as they tell."""

    def look(self) -> None:
        self.gpus = self._nvml.read()
        known = [w for w in (self._rapl.watts(), *(gpu.power_w for gpu in self.gpus)) if w is not None]
        self.power_w = sum(known) if known else None


def _numbers(paths: Iterable[Path]) -> list[int] | None:
    """None where there are none, or one can't be read."""
    try:
        found = [int(path.read_text()) for path in paths]
    except (OSError, ValueError):
        return None
    return found or None
