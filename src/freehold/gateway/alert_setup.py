"""Sets up the alerts of this gateway from the settings, and says beforehand what is wrong with them."""

from __future__ import annotations

import socket
from pathlib import Path

from freehold import slo
from freehold.config import Config
from freehold.core import CardPace
from freehold.gateway.alerting import Alerting, Setup
from freehold.gateway.notify_send import receivers
from freehold.gateway.observe import Observe
from freehold.telemetry.builtin import built_in
from freehold.telemetry.measures import unknown
from freehold.telemetry.row import variant_of
from freehold.telemetry.rules import read


def alerting(config: Config, observe: Observe, port: int) -> Alerting:
    """Of the gateway on `port`, fed by what observes it. Raises `ConfigError` for a receiver that can't be told."""
    fleet = observe.fleet

    def paces() -> dict[str, CardPace]:
        cards = [card for name in list(fleet.lines) if (card := fleet.card_of(name)) is not None]
        return {variant_of(card): card.pace for card in cards if card.pace is not None}

    setup = Setup(
        server=f"{socket.gethostname()}:{port}",
        store_path=config.home / "state" / f"alerts-{config.server.port}.sqlite",
        history_path=None if observe.history is None else observe.history.path,
        rules_path=Path(config.alerts.rules) if config.alerts.rules else None, objectives=observe.objectives,
        paces=paces,
    )  # fmt: skip
    made = Alerting(setup, receivers(config.alerts, config.server.webhook_secret))
    if observe.on:
        made.fed = True
        observe.on_slot.append(made.slot)
        observe.on_event.append(made.event)
    return made


def check(config: Config) -> None:
    """Raises `ConfigError` for alerts that can't be set up so, before anything starts."""
    receivers(config.alerts, config.server.webhook_secret)
    if config.alerts.rules:
        objectives = slo.parse(config.observe.slo) if config.observe.slo else ()
        read(Path(config.alerts.rules), built_in(objectives), unknown)
