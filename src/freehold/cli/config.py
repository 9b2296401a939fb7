"""`freehold config`: every setting, its value and where it came from."""

from __future__ import annotations

from pathlib import Path

from freehold.cli.output import ConfigFile, JsonFlag, print_json

SECRET = {"engine.remote_key"}


def config(config_file: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Print each setting, its value and where it comes from."""
    from freehold import config as settings_of

    tree, settings = settings_of.load(file=Path(config_file) if config_file else None)
    shown = {s.name: ("(set)" if s.name in SECRET and s.value else s.value) for s in settings}
    if as_json:
        print_json(
            {
                "home": str(tree.home),
                "settings": [
                    {"name": s.name, "value": shown[s.name], "source": s.source, "help": s.help} for s in settings
                ],
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
