"""Two gateways and two hosts of workers that share a Redis; each has a name and a home of its own, as on machines of
their own. Whole hosts are killed in the middle of answers.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from redis_server import running
from served import Served, freehold
from stream import ASK, Stream, until

CHAT = "/v1/chat/completions"
LONG = {**ASK, "max_tokens": 80, "ignore_eos": True, "seed": 7, "temperature": 0}
MODEL = ("sim:llama-125m-openvino-2core", "--name", "tester", "--threads", "1")


class Hosts:
    """`front` and `gate` have a gateway each, `alpha` and `beta` a worker each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        store = ("--store", stack.enter_context(running(folder)).url)
        started = [
            Served(folder / name, *model, *store, "--set", f"server.name={name}", command=command)
            for name, command, model in (
                ("front", "gateway", ()), ("alpha", "work", MODEL), ("gate", "gateway", ()), ("beta", "work", MODEL),
            )
        ]  # fmt: skip
        self._started = {host.home.name: stack.enter_context(host) for host in started}  # in whatever order
        for gateway in ("front", "gate"):
            self.until_ready(gateway, "alpha.worker-1", "beta.worker-1")
        stream = Stream()
        with stream.reading(self["gate"], CHAT, LONG):
            stream.rest()
        self.undisturbed = stream.text

    def __getitem__(self, name: str) -> Served:
        return self._started[name]

    def rows(self, gateway: str) -> dict[str, Any]:
        rows = httpx.get(f"{self[gateway].url}/freehold/workers", trust_env=False).json()["workers"]
        return {row["name"]: row for row in rows}

    def until_ready(self, gateway: str, *workers: str) -> None:
        until(lambda: all(self.rows(gateway).get(name, {}).get("state") in ("ready", "busy") for name in workers))

    def at_work(self, gateway: str) -> dict[str, Any]:
        """The worker that answers now."""
        until(lambda: any(row["running"] for row in self.rows(gateway).values()))
        return next(row for row in self.rows(gateway).values() if row["running"])

    def kill(self, name: str) -> None:
        """All processes of a host at once, as a power cut would."""
        parent = psutil.Process(self[name].process.pid)
        for process in (parent, *parent.children(recursive=True)):
            os.kill(process.pid, signal.SIGKILL)


class Orphan:
    """An answer whose host of workers died wholly in its middle. It goes on when the dead worker's lease has ended, and
    is read in the background: the tests meanwhile have the other host."""

    def __init__(self, hosts: Hosts) -> None:
        self.stream = Stream()
        self._reading = self.stream.reading(hosts["gate"], CHAT, LONG)
        self._reading.__enter__()
        self.stream.take(6)
        self.host = hosts.at_work("gate")["name"].partition(".")[0]
        self.left = "alpha" if self.host == "beta" else "beta"
        hosts.kill(self.host)
        self._thread = threading.Thread(target=self.stream.rest)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def close(self) -> None:
        self.join()
        self._reading.__exit__(None, None, None)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(tmp_path_factory.mktemp("hosts"), stack)


@pytest.fixture(scope="module")
def orphan(hosts: Hosts) -> Iterator[Orphan]:
    orphan = Orphan(hosts)
    yield orphan
    orphan.close()


def test_every_gateway_shows_all_workers(hosts: Hosts, tmp_path: Path) -> None:
    for gateway in ("front", "gate"):
        assert set(hosts.rows(gateway)) == {"alpha.worker-1", "beta.worker-1"}
        assert httpx.get(f"{hosts[gateway].url}/readyz", trust_env=False).status_code == 200
        steps = httpx.get(f"{hosts[gateway].url}/freehold/workers/beta.worker-1/steps", trust_env=False)
        assert steps.status_code == 200
    shown = freehold("workers", "--url", hosts["gate"].url, home=tmp_path).stdout
    assert shown.index("alpha.worker-1") < shown.index("beta.worker-1")


def test_a_worker_of_another_host_that_dies_is_not_noticed(hosts: Hosts, orphan: Orphan) -> None:
    stream = Stream()
    with stream.reading(hosts["gate"], CHAT, LONG):
        stream.take(6)
        os.kill(hosts.rows("gate")[f"{orphan.left}.worker-1"]["pid"], signal.SIGKILL)
        stream.rest()
    assert stream.done
    assert stream.text == hosts.undisturbed


def test_changes_go_to_the_host_they_are_about(hosts: Hosts, orphan: Orphan) -> None:
    left = orphan.left
    with httpx.Client(base_url=f"{hosts['front'].url}/freehold", timeout=20, trust_env=False) as http:
        refused = http.post("/rollout", json={"model": "sim:instant"})
        assert refused.status_code == 409
        assert "No workers run on front." in refused.text
        assert "--on HOST" in refused.text
        assert f"Hosts: {left}, front, gate." in http.post("/reload?host=gamma").text
        assert http.post(f"/reload?host={left}").json() == {"gateway": None, "changed": []}
        drained = http.post(f"/workers/{left}.worker-1/drain", json={"replace": True})
        assert drained.json() == {"worker": f"{left}.worker-1", "replaced_by": f"{left}.worker-2"}
    hosts.until_ready("gate", f"{left}.worker-2")


def test_a_stream_whose_gateway_s_host_dies_goes_on_at_another(hosts: Hosts, orphan: Orphan) -> None:
    stream = Stream()
    with stream.reading(hosts["front"], CHAT, LONG):
        stream.take(6)
        hosts.kill("front")
        stream.until_cut()
    with stream.reading(hosts["gate"], CHAT, LONG, **{"last-event-id": stream.last_id}):
        stream.rest()
    assert stream.done
    assert stream.text == hosts.undisturbed


def test_a_host_of_workers_that_dies_is_not_noticed(hosts: Hosts, orphan: Orphan) -> None:
    orphan.join()
    assert orphan.stream.done
    assert orphan.stream.text == hosts.undisturbed
    assert not any(name.startswith(orphan.host) for name in hosts.rows("gate"))
