"""What is refused as impossible, the catalogue of hardware, and API prices with their age."""

from __future__ import annotations

import datetime

import pytest

from freehold import api_prices
from freehold.errors import ConfigError, UsageError
from freehold.sizing import hardware, physics, prices
from freehold.sizing.physics import Model

TODAY = datetime.date(2026, 11, 25)
CARD = hardware.choose(hardware.built_in(), "rtx-4090")
LLAMA_13B = Model(parameters=13e9, bits=4, kv_bytes_per_token=2 * 40 * 5120 * 2)


def test_100_requests_a_second_of_a_13b_model_on_one_consumer_card() -> None:
    found = physics.checks(LLAMA_13B, CARD, 100, 256, 128)
    held = {check.name: check.holds for check in found}
    assert held == {"memory": True, "arithmetic": False, "bandwidth": False}
    with pytest.raises(UsageError) as refused:
        physics.refuse(found)
    assert "998 TFLOP/s" in refused.value.why
    assert "6.04 times the 165" in refused.value.why
    assert "12.8k tokens/s" in refused.value.why


def test_a_70b_model_in_35_gb_at_int8() -> None:
    claim = physics.weights_check(Model(parameters=70e9, bits=8, claimed_bytes=35e9))
    assert claim
    assert not claim.holds
    for size in ("70 GB; claimed are 35 GB", "280 GB in fp32", "140 GB in fp16", "70 GB in int8", "35 GB in int4"):
        assert size in claim.arithmetic
    assert physics.weights_check(Model(parameters=70e9, bits=4, claimed_bytes=35e9)).holds  # type: ignore[union-attr]
    assert physics.weights_check(Model(parameters=70e9)) is None


def test_what_fits_and_what_does_not() -> None:
    whole = Model(parameters=13e9, bits=16)
    assert not physics.checks(whole, CARD, 0, 256, 128)[0].holds, "26 GB in 24"
    two = hardware.choose(hardware.built_in(), "2x rtx-4090")
    assert physics.checks(whole, two, 0, 256, 128)[0].holds
    int8 = Model(parameters=13e9, bits=8, kv_bytes_per_token=2 * 40 * 5120 * 2)
    assert physics.sequences(int8, CARD, 384) == 34  # 11 GB / (0.819 MB x 384)
    physics.refuse(physics.checks(LLAMA_13B, CARD, 5, 256, 128))


def test_every_row_has_its_date_and_its_sources() -> None:
    catalogue = hardware.built_in()
    kinds = {row.kind for row in catalogue.hardware.values()}
    assert kinds == {"card", "box"}
    for name, row in catalogue.hardware.items():
        assert row.spec_source, name
        assert row.age_days(TODAY) >= 0, name
        assert bool(row.price_usd) == bool(row.price_source), name
        assert bool(row.rent_usd_per_hour) == bool(row.rent_source), name
        assert row.price_usd or row.rent_usd_per_hour, name
        if row.price_usd:
            hardware.figures(row, catalogue.host, rented=False, today=TODAY)
        if row.rent_usd_per_hour:
            hardware.figures(row, catalogue.host, rented=True, today=TODAY)


def test_an_instance_of_two_cards_has_one_host() -> None:
    host = hardware.built_in().host
    one, two = (
        hardware.figures(hardware.choose(hardware.built_in(), name), host, rented=False, today=TODAY)
        for name in ("rtx-4090", "2x rtx-4090")
    )
    assert one["hardware_usd"].value == 3000
    assert two["hardware_usd"].value == 5000
    assert "ago" in one["hardware_usd"].source


def test_an_old_price_is_told_to_be_old() -> None:
    later = hardware.figures(CARD, None, rented=False, today=TODAY + datetime.timedelta(days=400))
    assert "OLD" in later["hardware_usd"].source


def test_rows_of_the_owner_go_first_and_mistakes_are_named() -> None:
    text = """
        [hardware.rtx-4090]
        label = "ours"
        kind = "box"
        memory_gb = 24
        bandwidth_gb_s = 1008
        peak_tflops = 165
        spec_source = "sticker"
        price_usd = "900"
        price_source = "invoice"
        idle_w = "50"
        busy_w = "400"
        date = "2026-11-01"
    """
    both = hardware.with_own(hardware.built_in(), hardware.parse_catalogue(text.encode(), "own.toml"))
    assert hardware.choose(both, "rtx-4090").label == "ours"
    assert len(both.hardware) == len(hardware.built_in().hardware)
    for wrong in (text.replace("price_usd", "prize_usd"), text.replace("2026-11-01", "soon"), "[[["):
        with pytest.raises(ConfigError, match=r"own\.toml"):
            hardware.parse_catalogue(wrong.encode(), "own.toml")
    with pytest.raises(UsageError, match="rtx-4091") as caught:
        hardware.choose(both, "rtx-4091")
    assert "rtx-4090" in caught.value.why
    with pytest.raises(UsageError, match="no price"):
        hardware.figures(hardware.choose(both, "h200"), None, rented=False, today=TODAY)


FILE = """
as_of = 2026-11-01
source = "contract"
[models."ours/big"]
input_usd = 0.4
output_usd = 1.6
"""


def test_prices_from_a_file() -> None:
    price = prices.from_file(FILE.encode(), "p.toml", "ours/big")
    assert (price.input_usd, price.cached_usd, price.output_usd) == (0.4, 0.4, 1.6)
    assert price.age_days(TODAY) == 24
    assert "24 days ago" in prices.figures(price, TODAY)["api_input_usd"].source
    same = (
        b'{"as_of": "2026-11-01", "source": "contract", "models": {"ours/big": {"input_usd": 0.4, "output_usd": 1.6}}}'
    )
    assert prices.from_file(same, "p.json", "ours/big").output_usd == 1.6
    with pytest.raises(UsageError, match="ours/small"):
        prices.from_file(FILE.encode(), "p.toml", "ours/small")
    for wrong in (
        "as_of = 1",
        FILE.replace("output_usd", "out"),
        FILE.replace("1.6", "-1"),
        FILE.replace("1.6", "inf"),
    ):
        with pytest.raises(ConfigError, match=r"p\.toml"):
            prices.from_file(wrong.encode(), "p.toml", "ours/big")


def test_prices_from_the_package() -> None:
    price = api_prices.from_package("gpt-4o-mini", TODAY)
    assert price.model == "openai/gpt-4o-mini"
    assert 0 < price.cached_usd < price.input_usd < price.output_usd
    assert 0 <= price.age_days(TODAY) < 2000
    assert price.source.startswith("genai-prices ")
    assert api_prices.from_package("openai/gpt-4o-mini", TODAY).input_usd == price.input_usd
    short, long = (api_prices.from_package("gemini-2.5-pro", TODAY, tokens) for tokens in (1000, 500_000))
    assert short.input_usd < long.input_usd
    with pytest.raises(UsageError, match="gpt-4o-minnie") as caught:
        api_prices.from_package("gpt-4o-minnie", TODAY)
    assert "gpt-4o-mini" in caught.value.why
