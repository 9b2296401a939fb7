"""What `cost` and `verdict` share: options and files into the inputs of the money, and the result into a file.

The order, weakest first: assumptions, the catalogue of hardware, the measured capacity, the price list, what was said.
"""

from __future__ import annotations

import datetime
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from freehold.cli.output import print_json
from freehold.core import Record
from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.sizing.capacity import Capacity
    from freehold.sizing.figure import Figure
    from freehold.sizing.hardware import Hardware
    from freehold.sizing.inputs import Inputs
    from freehold.sizing.physics import Check

Folder = Annotated[
    Path | None, typer.Argument(help="Folder with a knee.json; the result is written there too.", metavar="DIR")
]
Volume = Annotated[
    str, typer.Option("--requests", "-r", help="Successful answers a month, like 250k or 1.5M.", metavar="N")
]
HardwareName = Annotated[
    str,
    typer.Option("--hardware", help="Row of the catalogue, like rtx-4090 or '2x l40s'.", metavar="NAME"),
]
Rent = Annotated[bool, typer.Option("--rent", help="Rent it by the hour instead of buying it.")]
CatalogueFile = Annotated[
    Path | None, typer.Option("--catalogue", help="TOML with hardware rows of your own.", metavar="FILE")
]
Rate = Annotated[
    str,
    typer.Option("--rate", help="Requests/s of one instance at its SLO, if not measured: 5 or 4..5..6.", metavar="N"),
]
Tokens = Annotated[
    str, typer.Option("--tokens", help="Prompt and answer tokens of a request, like 256/128.", metavar="IN/OUT")
]
ApiModel = Annotated[str, typer.Option("--api", help="Model of the paid API, by its name there.", metavar="MODEL")]
PriceFile = Annotated[
    Path | None, typer.Option("--prices", help="TOML or JSON with prices of your own.", metavar="FILE")
]
ModelSize = Annotated[
    str,
    typer.Option(
        "--model", help="Own model for the physics check: 13B@8 (bits), or a profile's name.", metavar="MODEL"
    ),
]
ClaimedBytes = Annotated[
    str, typer.Option("--weights", help="GB that the weights are said to take, to be checked.", metavar="GB")
]
Assumptions = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any input, as people_hours=2..4..8; --json lists them.", metavar="INPUT=VALUE"),
]
NaiveFlag = Annotated[bool, typer.Option("--naive", help="Show the naive calculation beside the honest one.")]


class Asked(Record, frozen=True):
    """The options as they were given."""

    folder: Path | None
    requests: str
    hardware: str
    rent: bool
    catalogue: Path | None
    rate: str
    tokens: str
    api: str
    prices: Path | None
    model: str
    weights: str
    assume: tuple[str, ...]


class Gathered(Record, frozen=True):
    inputs: dict[str, Any]
    answers: float
    checks: list[Any]
    hardware: str


def gather(asked: Asked) -> Gathered:
    """Options and files as inputs; refuses what is physically impossible."""
    from freehold.sizing import hardware, inputs
    from freehold.sizing.figure import parse

    today = datetime.datetime.now(datetime.UTC).date()
    given: list[Inputs] = []
    row = None
    if asked.hardware:
        catalogue = hardware.built_in()
        if asked.catalogue:
            own = hardware.parse_catalogue(read(asked.catalogue), str(asked.catalogue))
            catalogue = hardware.with_own(catalogue, own)
        row = hardware.choose(catalogue, asked.hardware)
        given.append(hardware.figures(row, catalogue.host, rented=asked.rent, today=today))
    measured = _capacity(asked)
    given.append(inputs.of_capacity(measured))
    if asked.api:
        given.append(_prices(asked, today, measured.input_tokens))
    given.append(inputs.said(_pairs(asked.assume)))
    merged = inputs.merged(*given)
    answers = parse("--requests", asked.requests).value
    if answers <= 0:
        raise UsageError("--requests must be over 0.", next="Say how many answers a month you need, like 250k.")
    checks = _physics(asked, row, merged)
    if row is None and not says_hardware(asked.assume):
        raise UsageError(
            "Nobody has said what an instance runs on, so its cost isn't known.",
            next="Give --hardware NAME (`freehold cost --list` shows them), with --rent if rented; or --set "
            "hardware_usd=N, or --set rent_usd_per_hour=N. Zero is an answer too.",
        )
    return Gathered(inputs=merged, answers=answers, checks=checks, hardware=row.label if row else "")


def says_hardware(assume: tuple[str, ...]) -> bool:
    """Whether the inputs that were set say what an instance costs."""
    return any(text.partition("=")[0].strip() in ("hardware_usd", "rent_usd_per_hour") for text in assume)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"Can't read {path}.", f"{error.strerror}.", "Check the path.") from error


def _pairs(settings: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text} has no value.", next="Write --set people_hours=4 or people_hours=2..4..8.")
        pairs[name.strip()] = value
    return pairs


def _capacity(asked: Asked) -> Capacity:
    """Claimed with --rate, else from knee.json of the folder."""
    from freehold.sizing.capacity import Capacity, from_knee
    from freehold.sizing.figure import parse

    tokens = [parse("--tokens", part).value for part in asked.tokens.split("/")] if asked.tokens else [0.0, 0.0]
    if len(tokens) != 2:
        raise UsageError(f"--tokens {asked.tokens} is not IN/OUT.", next="Write it like 256/128.")
    if asked.rate:
        rate = parse("--rate", asked.rate)
        return Capacity(
            rate_per_s=rate.value, low=rate.ends[0], high=rate.ends[1], input_tokens=tokens[0], output_tokens=tokens[1],
            source="claimed with --rate", basis="assumed",
        )  # fmt: skip
    if asked.folder is None:
        raise UsageError(
            "Nobody has said what one instance carries.",
            next="Give a folder with the knee.json of `freehold knee --out DIR`, or claim it with --rate and --tokens.",
        )
    path = asked.folder / "knee.json"
    found = from_knee(read(path), str(path))
    if asked.tokens:
        found = msgspec.structs.replace(found, input_tokens=tokens[0], output_tokens=tokens[1])
    return found


def _prices(asked: Asked, today: datetime.date, input_tokens: float) -> Inputs:
    from freehold import api_prices
    from freehold.sizing import prices

    if asked.prices:
        price = prices.from_file(read(asked.prices), str(asked.prices), asked.api)
    else:
        price = api_prices.from_package(asked.api, today, input_tokens)
    return prices.figures(price, today)


def _physics(asked: Asked, row: Hardware | None, inputs: dict[str, Figure]) -> list[Check]:
    """Checks the claim; raises where it is impossible. Empty where the model isn't told."""
    from freehold.sizing import physics

    if not asked.model:
        if asked.weights:
            raise UsageError("--weights alone can't be checked.", next="Add --model, like 70B@8.")
        return []
    model = _model(asked)
    if row is None:
        claim = physics.weights_check(model)
        found = [claim] if claim else []
    else:
        rate, *lengths = (inputs[name].value for name in ("capacity_per_s", "input_tokens", "output_tokens"))
        found = physics.checks(model, row, rate, lengths[0], lengths[1])
    physics.refuse(found)
    return found


def _model(asked: Asked) -> Any:
    """`13B`, `13B@8`, or the name or path of a profile."""
    from freehold import profile
    from freehold.sizing.figure import parse
    from freehold.sizing.physics import Model

    size, _, bits = asked.model.partition("@")
    claimed = parse("--weights", asked.weights.upper().removesuffix("GB")).value * 1e9 if asked.weights else 0.0
    if size[:1].isdigit():
        return Model(
            parameters=parse("--model", size).value,
            bits=parse("--model", bits or "16").value,
            claimed_bytes=claimed,
        )
    told = profile.open_profile(asked.model)
    if not told.parameters or not told.weight_bytes:
        raise UsageError(f"The profile {told.name} doesn't tell parameters and weight bytes.", next="Write 13B@8.")
    return Model(
        parameters=told.parameters,
        bits=told.weight_bytes * 8 / told.parameters,
        kv_bytes_per_token=told.kv_bytes_per_token,
        claimed_bytes=claimed,
    )


# ---- what is printed ----------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """As JSON has it: infinity ("never") is null."""
    return msgspec.json.decode(msgspec.json.encode(value))


def keep(folder: Path | None, name: str, told: dict[str, Any]) -> None:
    """Write a result beside the measurements it comes from."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    except OSError as error:
        raise UsageError(f"Can't write {folder / name}.", f"{error.strerror}.") from error


def finish(asked: Asked, name: str, told: dict[str, Any], *, as_json: bool) -> None:
    told = {**told, "command": shlex.join(["freehold", *sys.argv[1:]])}
    keep(asked.folder, name, told)
    if as_json:
        print_json(plain(told))
    elif asked.folder:
        typer.echo(f"Written to {asked.folder / name}; `freehold report {asked.folder}` makes a page of it.")
