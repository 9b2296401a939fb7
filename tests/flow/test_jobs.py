"""`freehold jobs` against a real server: what waits, what ran, and what was poison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from served import freehold
from server import Server
from stream import ASK, Stream, until

CHAT = "/v1/chat/completions"
SECRET = "a very private harbour"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, model="sim:llama-125m-openvino-2core") as server:
        yield server


def jobs(server: Server, *arguments: str) -> dict[str, Any]:
    done = freehold("jobs", *arguments, "--url", server.url, "--json", home=server.folder)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_list_show_and_cancel(one: Server) -> None:
    body = {"prompt": SECRET, "mode": "async", "max_tokens": 2000, "ignore_eos": True}
    with httpx.Client(base_url=one.url, trust_env=False, timeout=60) as http:
        ids = [http.post("/generate", json=body).json()["id"] for _ in range(3)]
        listed = http.get("/freehold/jobs", params={"limit": 2})
        assert [job["id"] for job in listed.json()["jobs"]] == ids[:0:-1]
        assert listed.json()["has_more"]
        assert SECRET not in listed.text
        rest = http.get("/freehold/jobs", params={"after": ids[1]}).json()
        assert ([job["id"] for job in rest["jobs"]], rest["has_more"]) == (ids[:1], False)
        assert http.get("/freehold/jobs/nothing").status_code == 404
        foreign = http.get("/freehold/jobs", headers={"origin": "http://elsewhere.example"})
        assert foreign.status_code == 403
    assert SECRET in json.dumps(jobs(one, "show", ids[0])["request"])
    for id in ids:
        assert jobs(one, "cancel", id)["status_before"] in ("queued", "running")
    until(lambda: all(job["status"] == "cancelled" for job in jobs(one)["jobs"]))
    assert jobs(one, "cancel", ids[0])["status_before"] == "done"
    told = freehold("jobs", "--url", one.url, home=one.folder)
    assert ids[0] in told.stdout
    assert freehold("jobs", "show", ids[0], "--url", one.url, home=one.folder).returncode == 0
    assert freehold("jobs", "--state", "odd", home=one.folder).returncode == 2


def test_poison_is_kept_and_says_why(one: Server) -> None:
    stream = Stream()
    with stream.reading(one, CHAT, {**ASK, "max_tokens": 2000, "ignore_eos": True, "seed": 7}):
        for _ in range(3):
            stream.take(3)
            one.workers[-1].kill()
            until(lambda: not one.worker_rows())
            one.start_worker().until_ready()
        stream.rest()
    (job,) = jobs(one, "--state", "poisoned")["jobs"]
    assert (job["status"], job["deaths"], job["error"]["code"]) == ("poisoned", 3, "poisoned")
    assert jobs(one, "show", job["id"])["request"]["messages"] == ASK["messages"]
