"""What this machine is and what it can do: cores, memory, GPUs, and measured memory bandwidth.

`freehold doctor` prints it, benchmarks put it beside their results, and a profile belongs to it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import threading
import time
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from freehold.core import Record

FEATURES = ("avx2", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp")
LIBRARIES = ("openvino-genai", "xllamacpp", "torch", "vllm", "redis")


class Gpu(Record, frozen=True):
    name: str
    memory_bytes: int


class Machine(Record, frozen=True):
    system: str
    cpu: str
    cores: int
    """Cores this process may use."""
    memory_bytes: int
    memory_free_bytes: int
    features: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    python: str


def describe() -> Machine:
    """This machine, without measuring anything (under 50 ms without a GPU)."""
    memory = psutil.virtual_memory()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_name(),
        cores=cores(),
        memory_bytes=memory_limit_bytes(),
        memory_free_bytes=min(memory.available, memory_limit_bytes()),
        features=_features(),
        gpus=_gpus(),
        python=platform.python_version(),
    )


def cores() -> int:
    """Cores this process may use: its affinity, cut by a container's CPU quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


def memory_limit_bytes(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Memory this process may use: the machine's, cut by the limit of its container or of any control group above."""
    limit = int(psutil.virtual_memory().total)
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return limit
    within = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    folder = groups / within
    for group in (folder, *folder.parents):
        if group == groups.parent:
            break
        try:
            limit = min(limit, int((group / "memory.max").read_text()))
        except (OSError, ValueError):  # no limit ("max"), or a root that has none
            continue
    return limit


def versions() -> dict[str, str]:
    """Version of each engine library that is installed, found without importing it."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def memory_bandwidth_gb_s(threads: int = 0, seconds: float = 1.0) -> float:
    """Median bytes moved a second (read plus write) by plain copies of blocks far larger than any cache.

    10^9 bytes a second. This is the ceiling of decoding: each token reads every weight once. `threads` 0 uses
    every core. Source of the method: STREAM's copy kernel (McCalpin, 1995), without its write-allocate share.
    """
    import numpy as np

    count = threads or cores()
    block = 64 << 20
    pairs = [(np.ones(block, np.uint8), np.zeros(block, np.uint8)) for _ in range(count)]
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 3:
        workers = [threading.Thread(target=np.copyto, args=(to, of)) for of, to in pairs]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        rates.append(2 * block * count / (time.perf_counter() - start) / 1e9)
    return statistics.median(rates)


class Bandwidth(Record, frozen=True):
    """Of this machine's memory, as it was measured once: `state/bandwidth.json` in FREEHOLD_HOME."""

    gb_s: float
    cpu: str
    cores: int
    measured_unix_s: float


def keep_bandwidth(home: Path, gb_s: float) -> None:
    """For a server to compare itself with. A folder that can't be written keeps nothing."""
    told = Bandwidth(gb_s=gb_s, cpu=_cpu_name(), cores=cores(), measured_unix_s=time.time())
    path = home / "state" / "bandwidth.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(msgspec.json.encode(told))


def kept_bandwidth_bytes_per_s(home: Path) -> float | None:
    """What was measured here; None if nothing was, or on another machine."""
    try:
        told = msgspec.json.decode((home / "state" / "bandwidth.json").read_bytes(), type=Bandwidth)
    except (OSError, msgspec.DecodeError):
        return None
    return told.gb_s * 1e9 if (told.cpu, told.cores) == (_cpu_name(), cores()) and told.gb_s > 0 else None


def sync_ms(folder: Path, times: int = 30) -> tuple[float, float]:
    """Median and worst milliseconds to make 4 KiB durable in `folder`: the floor under a durable accept."""
    path = folder / f".sync-{os.getpid()}"
    taken = []
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(times):
                file.write(b"\0" * 4096)
                start = time.perf_counter()
                os.fsync(file.fileno())
                taken.append((time.perf_counter() - start) * 1e3)
    finally:
        path.unlink(missing_ok=True)
    return statistics.median(taken), max(taken)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _features() -> tuple[str, ...]:
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return ()
    return tuple(name for name in FEATURES if name in words)


def _gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs as nvidia-smi tells them; none where it is not installed."""
    if not shutil.which("nvidia-smi"):
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rsplit(",", 1) for line in told.splitlines() if "," in line]
    return tuple(Gpu(name=name.strip(), memory_bytes=int(mib) << 20) for name, mib in rows)
