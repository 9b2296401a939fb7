"""What `freehold top` draws of `/freehold/stats`: objectives, alerts, percentiles of each variant, load, workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

Row = dict[str, Any]
METRICS = {
    "ttft_ms": "first token", "itl_ms": "between tokens", "e2e_ms": "end to end", "queue_ms": "in queue",
    "step_ms": "a step",
}  # fmt: skip
STATE_STYLES = {"ready": "green", "busy": "green", "hung": "bold red", "dead": "bold red"}


def screen(found: Row, url: str, bytes_in_words: Callable[[float], str], away: str = "") -> RenderableType:
    """Everything, the verdict first. `away`: why what is shown is old."""
    parts: list[RenderableType] = [Text(f"{url}, the last {span(found['window_s'])}", style="dim")]
    if away:
        parts.append(Text(f"{away} What follows is old; trying again.", style="bold red"))
    parts += [_objectives(found.get("slo", [])), *_alerts(found.get("alerts", [])), ""]
    parts += [_latencies(found.get("variants", {})), "", _load(found), ""]
    parts.append(_workers(found.get("workers", []), bytes_in_words))
    return Group(*parts)


def _objectives(slo: list[Row]) -> Text:
    if not slo:
        return Text("No objective is set (observe.slo).", style="dim")
    line = Text()
    for i, each in enumerate(slo):
        kept = each["kept"]
        style = "dim" if kept is None else "green" if kept else "bold red"
        value = f" (now {ms(each['value_ms'])})" if each.get("value_ms") is not None else ""
        line.append("   " if i else "")
        line.append(
            f"{each['text']}: {'nothing yet' if kept is None else 'kept' if kept else 'NOT KEPT'}{value}", style
        )
    return line


def _alerts(alerts: list[Row]) -> list[Text]:
    firing = [each for each in alerts if each["state"] == "firing"]
    return [
        Text(f"{each['severity']}: {each['what']} {each.get('advice', '')}",
             style="bold red" if each["severity"] == "critical" else "yellow")
        for each in firing
    ]  # fmt: skip


def _latencies(variants: dict[str, Row]) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("latency")
    for heading in ("p50", "p95", "p99", "samples"):
        table.add_column(heading, justify="right")
    for variant, told in variants.items():
        if len(variants) > 1:
            table.add_row(Text(variant, style="bold"))
        for metric, name in METRICS.items():
            row = told.get(metric)
            if row and row.get("p50") is not None:
                table.add_row(name, *(ms(row[q]) for q in ("p50", "p95", "p99")), f"{row['count']:,}")
    return table if table.row_count else Text("Nothing has ended in this window.", style="dim")


def _load(found: Row) -> RenderableType:
    variants = list(found.get("variants", {}).values())
    counts = {key: sum(v["counts"].get(key, 0) for v in variants) for key in ("ok", "failed", "expired", "refused")}
    queue, cost = found.get("queue", {}), found.get("cost") or {}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("requests", f"{sum(v['requests_per_s'] for v in variants):.2f}/s",
                  f"{counts['ok']} answered, {counts['failed'] + counts['expired']} failed, "
                  f"{counts['refused']} refused")  # fmt: skip
    table.add_row(
        "tokens",
        f"{sum(v['tokens_per_s'] for v in variants):.1f}/s",
        ", ".join(f"{v['batch_mean']:.1f} sequences a step" for v in variants if v.get("batch_mean")),
    )
    depth = queue.get("depth_per_batch")
    table.add_row("queue", str(queue.get("depth", "-")), f"{depth:.1f} batches" if depth is not None else "")
    table.add_row("running", f"{queue.get('running', '-')} of {queue.get('batch_limit') or '-'}", "")
    if cost.get("per_successful_request_usd") is not None:
        saved = f", {cost['saved_usd']:.2f} USD saved against {cost['against']}" if cost.get("saved_usd") else ""
        table.add_row("cost", f"{cost['per_successful_request_usd']:.6f} USD", f"a successful request{saved}")
    if found.get("power_w") is not None:
        table.add_row("power", f"{found['power_w']:.0f} W", "")
    return table


def _workers(rows: list[Row], bytes_in_words: Callable[[float], str]) -> RenderableType:
    table = Table("worker", "state", "model", "running", "KV used", "memory", "restarts",
                  box=None, header_style="bold", pad_edge=False)  # fmt: skip
    for row in rows:
        usage = row.get("kv_usage")
        phase = f" ({row['phase']})" if row.get("phase") and row["state"] == "loading" else ""
        table.add_row(row["name"], Text(row["state"] + phase, STATE_STYLES.get(row["state"], "yellow")),
                      escape(row.get("model", "")), str(row.get("running", 0)),
                      "-" if usage is None else f"{usage:.0%}",
                      bytes_in_words(row["memory_bytes"]) if row.get("memory_bytes") else "-",
                      str(row.get("restarts", 0)))  # fmt: skip
    return table if rows else Text("No worker has come up yet.", style="dim")


def ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def span(seconds: float) -> str:
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return word if seconds == size else f"{seconds / size:g} {word}s"
    return f"{seconds:g} s"
