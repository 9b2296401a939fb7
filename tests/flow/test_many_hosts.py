"""Two gateways and two hosts of workers that share a Redis: told apart by name, home and nothing else, as on machines of
their own. Whole hosts are killed in the middle of answers.
"""

from __future__ import annotations

import json
import os
import signal
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
MODEL = "sim:llama-125m-openvino-2core"


class Hosts:
    """`front` and `gate` have a gateway each, `alpha` and `beta` a worker each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        store = stack.enter_context(running(folder)).url
        self._started: dict[str, Served] = {}
        for name in ("front", "gate", "alpha", "beta"):
            command = "gateway" if name in ("front", "gate") else "work"
            model = () if command == "gateway" else (MODEL, "--name", "tester", "--threads", "1")
            self._started[name] = Served(
                folder / name, *model, "--store", store, "--set", f"server.name={name}", command=command
            )
        for name in self._started:  # all start at once, in whatever order
            stack.enter_context(self._started[name])
        for name in ("front", "gate"):
            until(lambda name=name: len(self.ready(name)) == 2)  # type: ignore[misc]

    def __getitem__(self, name: str) -> Served:
        return self._started[name]

    def rows(self, gateway: str) -> dict[str, Any]:
        rows = httpx.get(f"{self[gateway].url}/freehold/workers", trust_env=False).json()["workers"]
        return {row["name"]: row for row in rows}

    def ready(self, gateway: str) -> list[str]:
        """Workers that this gateway hears."""
        return [
            name for name, row in self.rows(gateway).items() if row["state"] in ("ready", "busy") and row["steps"] >= 0
        ]

    def kill(self, name: str) -> None:
        """As a power cut would: all of the host's processes at once."""
        parent = self[name].process
        processes = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children(recursive=True)]
        for each in processes:
            os.kill(each.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(tmp_path_factory.mktemp("hosts"), stack)


def test_every_gateway_shows_and_uses_all_workers(hosts: Hosts, tmp_path: Path) -> None:
    for gateway in ("front", "gate"):
        assert set(hosts.rows(gateway)) == {"alpha.worker-1", "beta.worker-1"}
        assert httpx.get(f"{hosts[gateway].url}/readyz", trust_env=False).json()["workers"] == {"ready": 2}
    shown = freehold("workers", "--url", hosts["gate"].url, "--json", home=tmp_path)
    assert [row["name"] for row in json.loads(shown.stdout)["workers"]] == ["alpha.worker-1", "beta.worker-1"]
    steps = httpx.get(f"{hosts['front'].url}/freehold/workers/beta.worker-1/steps", trust_env=False)
    assert steps.status_code == 200


def test_changes_go_to_the_host_they_are_about(hosts: Hosts, tmp_path: Path) -> None:
    url = hosts["front"].url
    refused = freehold("rollout", "sim:instant", "--url", url, home=tmp_path)
    assert "No workers run on front." in refused.stderr
    assert "--on HOST" in refused.stderr
    unknown = freehold("reload", "--on", "gamma", "--url", url, home=tmp_path)
    assert "Hosts: alpha, beta, front, gate" in unknown.stderr
    again = freehold("reload", "--on", "alpha", "--url", url, "--json", home=tmp_path)
    assert json.loads(again.stdout) == {"gateway": None, "changed": []}
    drained = freehold("drain", "beta.worker-1", "--replace", "--url", url, "--json", home=tmp_path)
    assert json.loads(drained.stdout)["replaced_by"] == "beta.worker-2"
    until(lambda: "beta.worker-2" in hosts.ready("gate"))


def test_a_stream_is_resumed_at_another_gateway(hosts: Hosts) -> None:
    stream, whole = Stream(), Stream()
    with whole.reading(hosts["gate"], CHAT, LONG):
        whole.rest()
    with stream.reading(hosts["front"], CHAT, LONG):
        stream.take(6)
        hosts.kill("front")
        stream.until_cut()
    with stream.reading(hosts["gate"], CHAT, LONG, **{"last-event-id": stream.last_id}):
        stream.rest()
    assert stream.done
    assert stream.text == whole.text
    assert len(stream.events) == len(whole.events)


def test_a_host_that_dies_wholly_is_not_noticed(hosts: Hosts) -> None:
    stream, whole = Stream(), Stream()
    with whole.reading(hosts["gate"], CHAT, LONG):
        whole.rest()
    with stream.reading(hosts["gate"], CHAT, LONG):
        stream.take(6)
        at_work = next(name for name, row in hosts.rows("gate").items() if row["running"])
        hosts.kill(at_work.partition(".")[0])
        stream.rest()
    assert stream.error is None
    assert stream.done
    assert stream.text == whole.text
    assert len(hosts.ready("gate")) == 1
