"""API keys: hashed at rest, revoked at once, required where they must be."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from freehold.errors import ConfigError, Unauthorized, UsageError
from freehold.gateway import auth
from freehold.gateway.auth import Guard, is_loopback
from freehold.settings import ServerConfig


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def test_only_a_hash_is_kept(tmp_path: Path) -> None:
    key, token = auth.add(tmp_path, "laptop")
    text = (tmp_path / "keys.json").read_text()
    assert token not in text
    assert token.removeprefix("fh-") not in text
    assert key.last4 == token[-4:]
    assert len(token) >= 46
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_list_and_revoke(tmp_path: Path) -> None:
    first, _ = auth.add(tmp_path, "one")
    second, _ = auth.add(tmp_path, "two")
    assert [key.id for key in auth.list_keys(tmp_path)] == [first.id, second.id]
    assert auth.revoke(tmp_path, "one").id == first.id
    assert auth.revoke(tmp_path, second.id).name == "two"
    assert auth.list_keys(tmp_path) == []
    with pytest.raises(UsageError, match="no key 'one'"):
        auth.revoke(tmp_path, "one")


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
def test_a_key_needs_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        auth.add(tmp_path, name)


def test_names_are_unique(tmp_path: Path) -> None:
    auth.add(tmp_path, "one")
    with pytest.raises(UsageError, match="already"):
        auth.add(tmp_path, "one")


def test_guard_knows_keys_made_and_revoked_later(tmp_path: Path) -> None:
    first, token = auth.add(tmp_path, "one")
    guard = Guard(tmp_path, ServerConfig(api_keys="on"))
    assert guard.key(bearer(token)).id == first.id
    second, another = auth.add(tmp_path, "two")
    assert guard.key(b"bearer  " + another.encode()).id == second.id
    auth.revoke(tmp_path, first.id)
    with pytest.raises(Unauthorized):
        guard.key(bearer(token))


@pytest.mark.parametrize(
    "header", [None, b"", b"Bearer", b"Bearer ", b"Basic abc", b"Bearer fh-wrong", b"fh-wrong", b"\xff"]
)
def test_guard_refuses(tmp_path: Path, header: bytes | None) -> None:
    auth.add(tmp_path, "one")
    with pytest.raises(Unauthorized):
        Guard(tmp_path, ServerConfig(api_keys="on")).key(header)


def test_keys_are_required_off_loopback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="freehold keys add"):
        Guard(tmp_path, ServerConfig(host="0.0.0.0"))
    assert not Guard(tmp_path, ServerConfig()).required
    assert not Guard(tmp_path, ServerConfig(host="0.0.0.0", api_keys="off")).required
    assert Guard(tmp_path, ServerConfig()).key(None).id == "local"


def test_broken_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(ConfigError, match=r"keys\.json"):
        auth.list_keys(tmp_path)


HERE = ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST")
ELSEWHERE = ("0.0.0.0", "::", "192.168.0.1", "localhost.evil.example", "")


@pytest.mark.parametrize("host", [*HERE, *ELSEWHERE])
def test_is_loopback(host: str) -> None:
    assert is_loopback(host) is (host in HERE)


def test_a_damaged_file_leaves_the_good_keys_in_force(tmp_path: Path) -> None:
    key, token = auth.add(tmp_path, "one")
    guard = Guard(tmp_path, ServerConfig(api_keys="on"))
    (tmp_path / "keys.json").write_text("{")
    assert guard.key(bearer(token)).id == key.id
    with pytest.raises(Unauthorized):
        guard.key(bearer("fh-other"))
