"""What `freehold serve` settles by itself: a kept profile's batch limit, and what stands behind a URL."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import httpx
import msgspec

from freehold import machine, profile
from freehold.engine.profiled import FOLDER
from served import Served, freehold


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=30)


def test_a_kept_profile_sets_the_batch_and_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    here = machine.describe()
    mine = msgspec.structs.replace(
        profile.open_profile("starter-openvino-2core"),
        name="mine", model="starter, q8_0", engine="llamacpp", machine=f"{here.cores} cores, {here.cpu}", sweet_batch=3,
    )  # fmt: skip
    path = home / FOLDER / "mine.json"
    profile.save(mine, path)
    (home / FOLDER / "broken.json").write_text("{")
    with Served(home, "starter", "--engine", "llamacpp", "--context", "256") as server:
        card = server.told["workers"]["worker-1"]
        said = server.log.read_text()
    assert card["max_batch"] == 3
    assert card["max_batch_from"] == f"the sweet spot of {path}, measured {mine.date}"
    assert f"batch    3: {card['max_batch_from']}" in said
    assert re.search(r"profile  \S*broken.json is left out\. Wrong profile", said)
    with Served(home, "starter", "--engine", "llamacpp", "--context", "256", "--max-batch", "2") as server:
        card = server.told["workers"]["worker-1"]
    assert (card["max_batch"], card["max_batch_from"]) == (2, "as engine.max_batch says")
    shown = json.loads(freehold("config", "--json", home=home).stdout)
    assert [(each["path"], each["sweet_batch"]) for each in shown["profiles"]] == [(str(path), 3)]


def test_a_url_is_served_under_the_name_it_has_there(tmp_path: Path) -> None:
    with (
        Served(tmp_path / "there", "sim:instant", "--name", "upstream", "--context", "777") as there,
        Served(tmp_path / "here", f"{there.url}/v1") as here,
    ):
        [model] = get(f"{here.url}/v1/models").json()["data"]
        assert (model["id"], model["engine"], model["context_tokens"]) == ("upstream", "remote", 777)
        rows = get(f"{here.url}/freehold/workers").json()["workers"]
        assert [row["model"] for row in rows] == ["upstream"]
        body = {"model": "upstream", "messages": [{"role": "user", "content": "go"}], "max_tokens": 3}
        reply = httpx.post(f"{here.url}/v1/chat/completions", json=body, trust_env=False, timeout=30)
        assert reply.status_code == 200
    assert "serving  upstream:" in (tmp_path / "here" / "serve.log").read_text()


def test_a_remote_that_nobody_serves_ends_the_start(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    ended = freehold("serve", url, "--port", "0", "--set", "engine.remote_retries=1", home=tmp_path)
    assert ended.returncode == 5
    assert "can't be reached" in ended.stderr
    assert "Traceback" not in ended.stderr
