"""What a webhook may call, and how it is signed."""

from __future__ import annotations

import asyncio

import pytest

from freehold.errors import InvalidRequest
from freehold.gateway.address import is_public, resolve
from freehold.gateway.webhooks import pause_s, secret_bytes, signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.9.9", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x", "https://localhost:1/", "http://[::1]/", "http://2130706433/", "http://0x7f.1/",
        "ftp://8.8.8.8/", "https://user@8.8.8.8/", "https://", "http://8.8.8.8:99999/", "nonsense", "http://8.8.8.8/\x00",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        asyncio.run(resolve(url, private=False))
    assert raised.value.param == "webhook.url"


def test_a_url_is_called_at_the_address_that_was_checked() -> None:
    assert asyncio.run(resolve("https://8.8.8.8/x", private=False)) == "8.8.8.8"
    assert asyncio.run(resolve("http://127.0.0.1:9/x", private=True)) == "127.0.0.1"


def test_the_standard_s_own_example() -> None:
    body = b'{"test": 2432232314}'
    headers = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_c2hvcnQ="])
def test_secrets_that_cannot_sign(secret: str) -> None:
    with pytest.raises(InvalidRequest):
        secret_bytes(secret)


def test_pauses_double_up_to_an_hour() -> None:
    assert 0.5 <= pause_s(1) <= 1.0
    assert 4.0 <= pause_s(4) <= 8.0
    assert 1800.0 <= pause_s(20) <= 3600.0
