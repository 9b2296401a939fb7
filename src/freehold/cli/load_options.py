"""The options of `freehold load`, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Text = str | None
LOOP, TRACE, PROMPT, SERVER, RESULT = "Load", "Trace", "Prompts", "Server", "Result"

Url = Annotated[str, typer.Argument(help="Address of the server, or the folder of a run to show again.")]
Rate = Annotated[
    float | None, typer.Option("--rate", help="Requests/s, however slow the answers are.", rich_help_panel=LOOP)
]
Users = Annotated[int | None, typer.Option("--users", help="Users who wait for each answer.", rich_help_panel=LOOP)]
Ramp = Annotated[
    Text, typer.Option("--ramp", metavar="FROM:TO", help="Rate that rises or falls.", rich_help_panel=LOOP)
]
Steps = Annotated[
    Text, typer.Option("--steps", metavar="1,2,4", help="Rates, --seconds each (10 s).", rich_help_panel=LOOP)
]
Arrivals = Annotated[str, typer.Option("--arrivals", help="constant, poisson or gamma.", rich_help_panel=LOOP)]
Burstiness = Annotated[
    float | None,
    typer.Option("--burstiness", help="Of gamma: 1 is Poisson, smaller comes in bursts.", rich_help_panel=LOOP),
]
Seconds = Annotated[
    Text, typer.Option("--seconds", metavar="TIME", help="30, 10min, 2h; 30 s unless told.", rich_help_panel=LOOP)
]
Requests = Annotated[int | None, typer.Option("--requests", min=1, help="At most so many.", rich_help_panel=LOOP)]
Think = Annotated[Text, typer.Option("--think", metavar="TIME", help="Users' mean pause.", rich_help_panel=LOOP)]
Trace = Annotated[
    Path | None,
    typer.Option("--trace", help="Replay its arrivals and lengths; with --rate, its lengths.", rich_help_panel=TRACE),
]
TraceFormat = Annotated[
    str, typer.Option("--trace-format", help="azure, mooncake, burstgpt, servegen, freehold.", rich_help_panel=TRACE)
]
Skip = Annotated[Text, typer.Option("--skip", metavar="TIME", help="Begin there.", rich_help_panel=TRACE)]
Speed = Annotated[float, typer.Option("--speed", help="So many times as fast.", rich_help_panel=TRACE)]
Share = Annotated[float, typer.Option("--share", help="A random part of it.", rich_help_panel=TRACE)]
Loop = Annotated[bool, typer.Option("--loop", help="Again until --seconds.", rich_help_panel=TRACE)]
Synthesise = Annotated[bool, typer.Option("--synthesise", help="New traffic like it instead.", rich_help_panel=TRACE)]
InputTokens = Annotated[
    int | None, typer.Option("--input-tokens", min=1, help="128 unless told.", rich_help_panel=PROMPT)
]
OutputTokens = Annotated[
    int | None, typer.Option("--output-tokens", min=1, help="64 unless told.", rich_help_panel=PROMPT)
]
SharedTokens = Annotated[
    int, typer.Option("--shared-tokens", min=0, help="The same at every start.", rich_help_panel=PROMPT)
]
Spread = Annotated[
    float, typer.Option("--spread", min=0.0, max=0.99, help="Lengths vary by ± this share.", rich_help_panel=PROMPT)
]
Longest = Annotated[
    int | None, typer.Option("--longest", min=1, help="Cut a trace's prompts to this.", rich_help_panel=PROMPT)
]
Prompts = Annotated[
    Path | None, typer.Option("--prompts", help="A file: a text a line, or JSON lines.", rich_help_panel=PROMPT)
]
Model = Annotated[Text, typer.Option("--model", "-m", help="Default: the first.", rich_help_panel=SERVER)]
Api = Annotated[str, typer.Option("--api", help="chat or completions.", rich_help_panel=SERVER)]
ApiKey = Annotated[
    Text, typer.Option("--api-key", envvar="FREEHOLD_API_KEY", show_default=False, rich_help_panel=SERVER)
]
Stream = Annotated[bool, typer.Option("--stream/--no-stream", help="Token by token.", rich_help_panel=SERVER)]
Exact = Annotated[
    bool, typer.Option("--exact/--free", help="Answers as long as asked, where it can.", rich_help_panel=SERVER)
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", rich_help_panel=SERVER)]
Slo = Annotated[
    list[str] | None, typer.Option("--slo", help='"p99 ttft < 500ms": for goodput; several.', rich_help_panel=RESULT)
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Keep samples and manifest in this folder.", rich_help_panel=RESULT)
]
Processes = Annotated[int, typer.Option("--processes", min=1, max=64, help="That send.")]
MeasureCeiling = Annotated[
    bool, typer.Option("--ceiling/--no-ceiling", help="Measure after the run what the client can do at most.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed sends the same.")]
