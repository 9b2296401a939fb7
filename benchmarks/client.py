"""Does the load client send what was asked, when it was asked, and cost next to nothing?

Three things: the index of dispersion of what 1, 2 and 4 processes really sent (Poisson: 1); lateness at 1,000 requests
a second against `freehold serve sim:instant` on the same cores; and processor time for each streamed token, start-up
apart (the slope between a short and a long run), with `--peers` beside GuideLLM and AIPerf against one mock server.

    python benchmarks/client.py [--quick] [--peers]

The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

import client_peers
from freehold.loadtest.arrivals import arrivals, steady
from freehold.loadtest.generator import play
from freehold.loadtest.proof import ceiling, dispersion
from freehold.loadtest.record import columns
from freehold.loadtest.target import Ask, Target
from report import Claim, finish
from sides import Served, free_port

PROCESSES = (1, 2, 4)
DISPERSION_PER_S, LATENESS_PER_S = 1500.0, 1000.0
STREAM_TOKENS, PACE_S = 64, 0.02
STREAMS_PER_S, QUICK_STREAMS_PER_S = 20, 100
"""The peers get 20. Alone and in a hurry, more streams make the slope as sure in less time."""
Command = Callable[[int], list[str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about 45 s")
    parser.add_argument("--peers", action="store_true", help="install GuideLLM and AIPerf (heavy) and measure them too")
    given = parser.parse_args()
    console = Console(highlight=False)
    reached = ceiling("chat", 1, "a short question", STREAM_TOKENS)
    console.print(
        f"ceiling of one process here: {reached.requests_per_s:.0f} requests/s of {STREAM_TOKENS} tokens, "
        f"{reached.tokens_per_s:.0f} tokens/s, against a server that does nothing"
    )
    claims = uneven(5.0 if given.quick else 30.0, console)
    with TemporaryDirectory() as folder:
        claims.append(late(Path(folder), 6.0 if given.quick else 30.0, console))
    if given.quick and not given.peers:
        claims += dear(False, (2, 7), QUICK_STREAMS_PER_S, console)
    else:
        claims += dear(given.peers, (10, 30), STREAMS_PER_S, console)
    return finish("client", claims)


def uneven(seconds: float, console: Console) -> list[Claim]:
    """What was really sent, at several numbers of processes, against a server that does nothing."""
    rate = steady(DISPERSION_PER_S, seconds)
    claims = []
    with mock(tokens=1, pace_s=0.0) as url:
        for processes in PROCESSES:
            times = arrivals(rate, "poisson", seed=processes)
            rows = columns(
                sample
                for _, samples in play(Target(url=url, model="mock"), times, ask(1), processes=processes)
                for sample in samples
            )
            sent, asked = dispersion(rows.sent_s, rate), dispersion(times, rate)
            assert sent is not None
            assert asked is not None
            console.print(
                f"{processes} processes, {rows.number.size} requests at {DISPERSION_PER_S:.0f}/s: index of "
                f"dispersion {sent.index:.3f} ({sent.low:.3f} to {sent.high:.3f}) sent, {asked.index:.3f} asked"
            )
            claims.append(Claim(f"dispersion away from 1, {processes} processes", abs(sent.index - 1.0), "<=", 0.1))
    return claims


def late(home: Path, seconds: float, console: Console) -> Claim:
    """How late requests go out while gateway and worker want the same cores."""
    served = Served(home, "sim:instant")
    try:
        target = Target(url=f"http://127.0.0.1:{served.port}", model=served.model, api="completions", timeout_s=30.0)
        times = arrivals(steady(LATENESS_PER_S, seconds), "poisson", seed=1)
        run = play(target, times, ask(1))
        rows = columns(sample for _, samples in run for sample in samples)
    finally:
        served.close()
    late_ms = sorted(((rows.sent_s - rows.intended_s) * 1e3).tolist())
    p50, p99 = late_ms[len(late_ms) // 2], late_ms[int(0.99 * len(late_ms))]
    answered = int(rows.were("ok").sum()) / float(rows.end_s.max())
    console.print(
        f"lateness at {LATENESS_PER_S:.0f} requests/s against sim: p50 {p50:.3f} ms, p99 {p99:.3f} ms, "
        f"most {late_ms[-1]:.1f} ms; the server answered {answered:.0f}/s; "
        f"client {run.cpu_s[0] / seconds:.0%} of a core"
    )
    return Claim("lateness, p99 ms", p99, "<=", 1.0)


def dear(peers: bool, lengths_s: tuple[int, int], per_s: int, console: Console) -> list[Claim]:
    """Processor time of the whole command for each streamed token, and how many times more a peer's is."""
    with mock(STREAM_TOKENS, PACE_S) as url:
        own = us_per_token(lambda seconds: freehold(url, seconds, per_s), lengths_s, per_s)
        console.print(f"freehold load: {own:.1f} us of processor time a streamed token")
        claims = [Claim("us a streamed token", own, "<=", 57.1)]
        if not peers:
            return claims
        for peer in client_peers.PEERS:
            try:
                theirs = us_of_peer(peer, url, lengths_s, per_s)
            except RuntimeError as error:
                console.print(f"{peer.name} was not measured: {error}")
                continue
            console.print(f"{peer.name} {peer.version}: {theirs:.1f} us, {theirs / own:.1f} times as much")
            claims.append(Claim(f"times less than {peer.name}", theirs / own, ">=", 5.0))
    return claims


def us_of_peer(peer: client_peers.Peer, url: str, lengths_s: tuple[int, int], per_s: int) -> float:
    where = client_peers.installed(peer)
    return us_per_token(lambda seconds: peer.command(where, url, seconds), lengths_s, per_s, peer.environ(where))


def freehold(url: str, seconds: int, per_s: int) -> list[str]:
    more = ["--rate", str(per_s), "--arrivals", "constant", "--seconds", str(seconds), "--no-ceiling", "--free"]
    lengths = ["--input-tokens", "32", "--output-tokens", str(STREAM_TOKENS)]
    return [sys.executable, "-m", "freehold", "load", url, *more, *lengths]


def us_per_token(
    command: Command, lengths_s: tuple[int, int], per_s: int, environ: dict[str, str] | None = None
) -> float:
    """The slope of processor time over tokens between a short and a long run: start and end cancel out."""
    short_s, long_s = (cpu_s(command(seconds), environ) for seconds in lengths_s)
    tokens = (lengths_s[1] - lengths_s[0]) * per_s * STREAM_TOKENS
    return (long_s - short_s) / tokens * 1e6


def cpu_s(command: list[str], environ: dict[str, str] | None) -> float:
    """Of the command and all its children. Raises `RuntimeError` where it failed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=os.environ | (environ or {}), capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[:3])} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ask(tokens: int) -> Callable[[int], Ask]:
    return lambda number: Ask(text=f"request {number}", output_tokens=tokens)


@contextmanager
def mock(tokens: int, pace_s: float) -> Iterator[str]:
    """The server that all clients share, as a process of its own."""
    port = free_port()
    code = f"from freehold.loadtest.null import NullServer as N; N({tokens}, {pace_s}, {port}).serve()"
    child = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(1.0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    sys.exit(main())
