"""`freehold config`: every setting, its value and where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from freehold.cli.output import ConfigFile, JsonFlag, SetFlag, overrides, print_json

if TYPE_CHECKING:
    from freehold.profile import Profile

SECRET = {
    "alerts.email_password", "alerts.slack", "alerts.webhook", "alerts.webhook_secret", "engine.remote_key",
    "server.webhook_secret", "store.url",
}  # fmt: skip


def config(set_: SetFlag = None, config_file: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Print each setting, its value and where it comes from, as `freehold serve` would take it."""
    from freehold import config as settings_of
    from freehold.engine.profiled import kept_profiles

    tree, settings = settings_of.load(overrides(set_), file=Path(config_file) if config_file else None)
    kept, remarks = kept_profiles(tree.home)
    shown = {s.name: ("(set)" if s.name in SECRET and s.value else s.value) for s in settings}
    if as_json:
        print_json(
            {
                "home": str(tree.home),
                "settings": [
                    {"name": s.name, "value": shown[s.name], "source": s.source, "help": s.help} for s in settings
                ],
                "profiles": [{"path": str(path), **_belongs(one)} for path, one in kept],
            }
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("setting", "value", "from", "what it is"):
        table.add_column(heading, overflow="fold")
    for s in settings:
        value = ", ".join(shown[s.name]) if isinstance(shown[s.name], tuple) else str(shown[s.name])
        table.add_row(s.name, value or "-", s.source, s.help, style="" if s.source != "default" else "dim")
    console = Console()
    console.print(table)
    console.print(f"\nFREEHOLD_HOME is {tree.home}", highlight=False)
    told = [f"{path}: {one.model} on {one.engine}, {one.machine}: batch {one.sweet_batch}" for path, one in kept]
    for text in (*told, *remarks):
        console.print(f"profile {text}", highlight=False, markup=False)


def _belongs(profile: Profile) -> dict[str, str | int]:
    """What a profile is for, and the batch limit it gives."""
    return {name: getattr(profile, name) for name in ("model", "engine", "machine", "sweet_batch")}
