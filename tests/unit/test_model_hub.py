"""Downloads from a real HTTP server that speaks the hub's file API, cut connections and refusals included."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import model_checkpoints as made
from freehold.errors import ModelError
from freehold.model.convert import convert
from freehold.model.source import locate

COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
NEWER = "f" * 40


class Hub(ThreadingHTTPServer):
    """Repositories in memory: `/api/models/{id}/revision/{rev}` and `/{id}/resolve/{rev}/{file}`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commit = COMMIT
        self.cuts: dict[str, list[int]] = {}
        """File -> after how many bytes to hang up, once for each entry."""
        self.token = ""
        self.asked: list[tuple[str, str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self, ending: str) -> list[str]:
        """The Range headers of the GETs of a file."""
        return [bytes_ for method, path, bytes_ in self.asked if method == "GET" and path.endswith(ending)]


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        hub, path = self.server, unquote(self.path.partition("?")[0])
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        is_api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models/").strip("/").split("/")
        repo, revision = "/".join(parts[:2]), parts[3] if len(parts) > 3 else "main"
        if repo == "org/gated":
            return self.refuse(403, "GatedRepo")
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.refuse(401, "RepoNotFound")
        if repo not in hub.repos:
            return self.refuse(404, "RepoNotFound")
        if revision not in ("main", "v1", hub.commit, COMMIT):
            return self.refuse(404, "RevisionNotFound")
        if is_api:
            siblings = [{"rfilename": name} for name in hub.repos[repo]]
            answer = {
                "id": repo,
                "modelId": repo,
                "sha": hub.commit,
                "siblings": siblings,
                "private": False,
                "tags": [],
            }
            return self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body)
        name = "/".join(parts[4:])
        if name not in hub.repos[repo]:
            return self.refuse(404, "EntryNotFound")
        return self.send_file(name, hub.repos[repo][name], body)

    def send_file(self, name: str, raw: bytes, body: bool) -> None:
        etag = hashlib.sha256(raw).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": self.server.commit, "Accept-Ranges": "bytes"}
        status, begin = 200, 0
        if asked := self.headers.get("Range"):
            begin = int(asked.removeprefix("bytes=").split("-")[0])
            status, headers["Content-Range"] = 206, f"bytes {begin}-{len(raw) - 1}/{len(raw)}"
        cuts = self.server.cuts.get(name, [])
        cut = cuts.pop(0) if body and cuts else None
        self.reply(status, raw[begin:], headers, body, cut)

    def reply(self, status: int, raw: bytes, headers: dict[str, str], body: bool, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(raw))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(raw[:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)

    def refuse(self, status: int, code: str) -> None:
        self.reply(status, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"}, self.command == "GET")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("hub") / "model"
    made.write_checkpoint(folder, made.config(), shards=2)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"README.md": b"hello", "pytorch_model.bin": b"pickle", "original/model.safetensors": b"no"}


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("hub-gguf")
    made.write_checkpoint(folder / "model")
    convert(folder / "model", folder / "x.gguf", "x", "q8_0")
    return (folder / "x.gguf").read_bytes()


def test_a_checkpoint_is_downloaded_with_only_what_it_needs(
    hub: Hub, checkpoint: dict[str, bytes], tmp_path: Path
) -> None:
    hub.repos["org/tiny"] = checkpoint
    heard: list[tuple[str, int, int]] = []
    source = locate("org/tiny", home=tmp_path, report=lambda *said: heard.append(said))
    assert (source.kind, source.name, source.revision) == ("safetensors", "tiny", COMMIT)
    assert source.label == "hub org/tiny at 1a2b3c4"
    there = {path.name: path.read_bytes() for path in Path(source.path).iterdir()}
    unwanted = {"README.md", "pytorch_model.bin", "original/model.safetensors"}
    assert there == {name: raw for name, raw in checkpoint.items() if name not in unwanted}
    size = len(checkpoint["tokenizer.json"])
    assert ("downloading tokenizer.json", size, size) in heard


def test_a_second_start_needs_no_network_and_keeps_its_commit(
    hub: Hub, checkpoint: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["org/tiny"] = checkpoint
    first = locate("org/tiny", home=tmp_path)
    hub.commit = NEWER
    hub.asked.clear()
    assert locate("org/tiny", home=tmp_path) == first
    assert hub.asked == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert locate("org/tiny", home=tmp_path) == first
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert locate("org/tiny", revision="v1", home=tmp_path).revision == NEWER
    (tmp_path / "models" / "org--tiny" / "pins.json").unlink()
    assert locate("org/tiny", home=tmp_path).revision == NEWER


def test_a_cut_connection_goes_on_where_it_stopped(hub: Hub, gguf: bytes, tmp_path: Path) -> None:
    big = gguf + bytes(12 << 20)  # it is written in pieces of 10 MiB
    hub.repos["org/tiny-gguf"] = {"tiny-Q8_0.gguf": big, "tiny-Q4_0.gguf": b"other"}
    hub.cuts["tiny-Q8_0.gguf"] = [11 << 20]
    source = locate("org/tiny-gguf", home=tmp_path)
    assert source.kind == "gguf"
    assert Path(source.path).read_bytes() == big
    assert hub.gets("tiny-Q8_0.gguf") == ["", f"bytes={10 << 20}-"]


def test_many_who_start_together_download_once(hub: Hub, checkpoint: dict[str, bytes], tmp_path: Path) -> None:
    hub.repos["org/tiny"] = checkpoint
    with ThreadPoolExecutor(4) as pool:
        sources = list(pool.map(lambda _: locate("org/tiny", home=tmp_path), range(4)))
    assert len(set(sources)) == 1
    assert len(hub.gets("tokenizer.json")) == 1


def test_a_killed_download_goes_on_in_the_next_process(
    hub: Hub, gguf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["org/tiny-gguf"] = {"sub/tiny.gguf": gguf}

    class Killed(BaseException):
        """What a signal does to a download."""

    def die(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        locate("org/tiny-gguf", home=tmp_path, report=die)
    part = next((tmp_path / "models" / "org--tiny-gguf" / COMMIT / "sub").glob(".*.part"))
    part.write_bytes(gguf[:40_000])  # what a process that was killed later leaves
    hub.asked.clear()
    source = locate("org/tiny-gguf:sub/tiny.gguf", home=tmp_path)
    assert Path(source.path).read_bytes() == gguf
    assert hub.gets("tiny.gguf") == ["bytes=40000-"]
    assert not part.exists()


def test_damaged_bytes_are_noticed(hub: Hub, gguf: bytes, tmp_path: Path) -> None:
    hub.repos["org/tiny-gguf"] = {"tiny.gguf": gguf}
    locate("org/tiny-gguf", home=tmp_path)
    target = tmp_path / "models" / "org--tiny-gguf" / COMMIT / "tiny.gguf"
    tag = hashlib.sha256(hashlib.sha256(gguf).hexdigest().encode()).hexdigest()[:16]
    target.unlink()
    target.with_name(f".tiny.gguf.{tag}.part").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="arrived damaged"):
        locate("org/tiny-gguf", home=tmp_path)
    assert locate("org/tiny-gguf", home=tmp_path).kind == "gguf"


def test_what_the_hub_refuses_is_explained(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="There is no model org/none at http"):
        locate("org/none", home=tmp_path)
    with pytest.raises(ModelError, match=r"refuses org/gated \(HTTP 403\).*no token was given.*set HF_TOKEN"):
        locate("org/gated", home=tmp_path)
    hub.token = "right"
    hub.repos["org/tiny"] = {"x.gguf": b"GGUF"}
    with pytest.raises(ModelError, match=r"refuses org/tiny \(HTTP 401\).*no token was given"):
        locate("org/tiny", home=tmp_path)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(ModelError, match="The token given has no access") as raised:
        locate("org/tiny", home=tmp_path)
    assert "wrong" not in str(raised.value)
    monkeypatch.setenv("HF_TOKEN", "right")
    with pytest.raises(ModelError, match="has no revision 'v9'"):
        locate("org/tiny", revision="v9", home=tmp_path)
    with pytest.raises(ModelError, match="The file is corrupt"):
        locate("org/tiny", home=tmp_path)


def test_a_home_that_cannot_be_written_is_said(hub: Hub, gguf: bytes, tmp_path: Path) -> None:
    hub.repos["org/tiny"] = {"x.gguf": gguf}
    (tmp_path / "models").write_text("a file, where a folder should be")
    with pytest.raises(ModelError, match=r"Can't write below .*FREEHOLD_HOME"):
        locate("org/tiny", home=tmp_path)


def test_no_network_says_what_to_do(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(
        ModelError, match=r"Can't reach the hub for org/tiny.*HF_ENDPOINT to a mirror.*name their folder"
    ):
        locate("org/tiny", home=tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a-Q4_K_M.gguf", "a-Q5_K_M.gguf"],
            r"has 2 GGUF files.*a-Q4_K_M\.gguf, a-Q5_K_M\.gguf.*org/odd:a-Q4_K_M\.gguf",
        ),
        (["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"], "only split GGUFs"),
        (["pytorch_model.bin", "config.json"], "only as pickles"),
        (["README.md"], "no GGUF, only README.md"),
        (["../escape.gguf"], "holds no model"),
        ([], "only nothing"),
    ],
)
def test_repositories_without_one_clear_model(hub: Hub, tmp_path: Path, names: list[str], message: str) -> None:
    hub.repos["org/odd"] = dict.fromkeys(names, b"x")
    with pytest.raises(ModelError, match=message):
        locate("org/odd", home=tmp_path)


def test_a_named_file_must_be_there(hub: Hub, tmp_path: Path) -> None:
    hub.repos["org/two"] = {"a.gguf": b"x", "b.gguf": b"x"}
    with pytest.raises(ModelError, match=r"has no file c\.gguf. It has a\.gguf, b\.gguf"):
        locate("org/two:c.gguf", home=tmp_path)
