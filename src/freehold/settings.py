"""Every setting, declared once: its section, name, type, default and the sentence that explains it.

`config` reads them from flags, environment and file. The environment's name is `FREEHOLD_<SECTION>_<KEY>`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def setting(default: Any, help: str) -> Any:
    """A dataclass field with a default and the sentence that explains it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, slots=True)
class ServerConfig:
    host: str = setting("127.0.0.1", "Address to listen on. Anything but loopback requires API keys.")
    port: int = setting(8000, "Port to listen on; 0 picks a free one.")
    mode: Literal["hybrid", "stateful", "stateless"] = setting(
        "hybrid", "stateful: warm workers and no queue. stateless: a fresh process for every request, with limits."
    )
    name: str = setting("", "What this host is called among others that share a store; default: its host name.")
    api_keys: Literal["auto", "on", "off"] = setting("auto", "auto: keys are required unless the host is loopback.")
    cors_origins: tuple[str, ...] = setting((), "Browser origins allowed to call the API; none by default.")
    max_body_bytes: int = setting(4 << 20, "Largest request body.")
    max_output_tokens: int = setting(32_768, "Largest max_tokens a request may ask for.")
    max_n: int = setting(16, "Most answers a request may ask for with n.")
    default_max_tokens: int = setting(
        10_000, "Longest answer of a request without max_tokens; 0 leaves it to the context."
    )
    admission: Literal["on", "off"] = setting(
        "on", "off: nothing is refused but for server.max_queue, and no deadline is forecast."
    )
    max_queue: int = setting(4096, "Requests that may wait; beyond it new ones get 429.")
    max_queued_tokens: int = setting(
        0, "Tokens that may wait, prompts and expected answers together; beyond it 429. 0: no limit."
    )
    max_queued_mb: int = setting(256, "Prompts that may wait; beyond it 429. 0: no limit.")
    max_unread_mb: int = setting(8, "What is kept for a client that reads too slowly; beyond it the client is left.")
    stall_s: float = setting(60.0, "A client that takes nothing of its answer for so long is disconnected. 0: never.")
    body_timeout_s: float = setting(20.0, "A client that takes longer to send its request is disconnected.")
    max_file_mb: int = setting(200, "Largest file that may be uploaded for a batch.")
    max_files_mb: int = setting(4096, "All uploaded and written files together; beyond it uploads get 507.")
    keep_files_s: float = setting(2_592_000.0, "How long files are kept, and batches after their window.")
    max_batch_lines: int = setting(50_000, "Most requests in one batch.")
    batch_share: float = setting(
        0.75, "Share of the workers' places that batches may take; the rest stays for who waits for an answer."
    )
    webhook_secret: str = setting("", "Signs webhooks that bring no secret of their own: whsec_ and base64.")
    webhook_private: Literal["off", "on"] = setting("off", "on: webhooks may go to private and loopback addresses.")
    drain_s: float = setting(120.0, "Longest wait for running answers after SIGTERM.")
    restart_most_s: float = setting(
        30.0, "Longest wait before a process that died again and again is started once more."
    )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    model: str = setting(
        "starter", "starter, a GGUF file, a folder (safetensors or OpenVINO IR), a hub id, a URL, or sim."
    )
    more: tuple[str, ...] = setting(
        (), "Further models, as MODEL or NAME=MODEL: loaded when asked for, within engine.memory_budget_mb."
    )
    name: str = setting("", "Name in the API; default: from the model.")
    revision: str = setting("", "Hub revision; resolved to a commit and pinned.")
    quantization: str = setting("q8_0", "Weights after conversion from safetensors: q8_0, f16, bf16 or f32.")
    chat_template: str = setting("", "A Jinja file used instead of the model's own chat template.")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    engine: Literal["auto", "openvino", "llamacpp", "remote", "sim"] = setting("auto", "Which engine runs the model.")
    workers: int = setting(1, "Worker processes, each with its own copy of the model.")
    threads: int = setting(0, "Threads of each worker; 0 divides the cores among the workers.")
    context_tokens: int = setting(0, "Context length; 0 takes the model's, as far as the KV cache holds it.")
    max_batch: int = setting(
        0, "Most sequences at once in a worker; 0 takes that of engine.profile or of a fitting profile, else 32."
    )
    kv_cache_mb: int = setting(0, "KV cache of each worker; 0 sizes it for max_batch, within a quarter of memory.")
    memory_limit_mb: int = setting(
        0, "Near this much memory of its own a worker is drained and replaced; 0: its share of the machine's."
    )
    cpu_limit_s: float = setting(600.0, "server.mode stateless: processor time of one request's process.")
    memory_budget_mb: int = setting(
        0,
        "Memory for all of several models together; 0: nine tenths of the machine's. Those that don't fit take turns.",
    )
    idle_unload_s: float = setting(0.0, "A model that nobody has asked for this long leaves the memory. 0: never.")
    profile: str = setting("", "profile.json, or the name of a built-in one (sim).")
    remote_key: str = setting("", "API key for a remote engine; better given as FREEHOLD_ENGINE_REMOTE_KEY.")
    remote_timeout_s: float = setting(120.0, "Longest wait for the next byte of a remote engine.")
    remote_retries: int = setting(3, "Tries again after a refused or failed connection, with backoff.")
    sim_speed: float = setting(1.0, "Simulated time over real time; 0 is as fast as possible.")
    sim_faults: str = setting("", "Dials of the sim engine: slow=2,stuck_after=100,crash_after=50,leak_mb=1.")


@dataclass(frozen=True, slots=True)
class StoreConfig:
    url: str = setting(
        "", "redis://[USER:PASSWORD@]HOST:PORT/DB[?prefix=NAME] keeps the ledger in Redis or Valkey, for many machines."
    )
    redis_fsync: Literal["always", "everysec"] = setting(
        "always", "everysec accepts that a power cut of the Redis server loses the last second."
    )
    path: str = setting("", "Ledger file; default: state/ledger-PORT.sqlite in FREEHOLD_HOME.")
    keep_results_s: float = setting(86_400.0, "How long results that can be fetched by id are kept.")


@dataclass(frozen=True, slots=True)
class PipeConfig:
    host: str = setting(
        "127.0.0.1",
        "Where a gateway listens for workers of other hosts, with a shared store. It is authenticated, not encrypted.",
    )
    port: int = setting(0, "Port for them: the first free one of this and the nine after it; 0 picks any free one.")
    address: str = setting("", "Host that they dial, where it isn't pipe.host: a name, or an address outside a NAT.")


@dataclass(frozen=True, slots=True)
class ObserveConfig:
    recording: Literal["on", "off"] = setting("on", "off: no windows, no history, no alerts; only the plain counters.")
    slo: str = setting("", "What is promised, as in `p99 e2e < 500ms, p95 ttft < 200ms`: goodput and alerts go by it.")
    history: Literal["on", "off"] = setting("on", "off: nothing is written to the local history.")
    history_days: float = setting(30.0, "How long the history keeps a request or ten seconds.")
    history_mb: int = setting(512, "Most that the history takes on the disk; the oldest goes first.")
    keep_text: Literal["off", "on"] = setting("off", "on: the history keeps prompts and answers too.")
    price_per_hour_usd: float = setting(0.0, "What this machine costs; 0: not known, and no cost is told.")
    against: str = setting("", "The paid API to compare with: PROVIDER/MODEL or MODEL, as `freehold cost` names them.")
    runaway_tokens: int = setting(
        10_000, "An answer whose request sets no max_tokens is stopped there and named as runaway. 0: no such limit."
    )
    otlp_endpoint: str = setting(
        "", "Traces go there, OTLP over HTTP, as in http://127.0.0.1:4318; needs freehold[otlp]."
    )


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    rules: str = setting("", "Alert rules on top of the built-in ones (TOML); read again when the file changes.")
    webhook: str = setting("", "Alerts go to this URL, signed as Standard Webhooks.")
    webhook_secret: str = setting("", "Signs them: whsec_ and base64; server.webhook_secret without.")
    slack: str = setting("", "URL of a Slack incoming webhook.")
    alertmanager: str = setting("", "Address of a Prometheus Alertmanager, as in http://127.0.0.1:9093.")
    email_to: tuple[str, ...] = setting((), "Mail addresses that get alerts.")
    email_from: str = setting("", "Sender's address; without, the first of alerts.email_to.")
    email_server: str = setting("", "Mail server, HOST or HOST:PORT.")
    email_tls: Literal["starttls", "tls", "off"] = setting(
        "starttls", "starttls (port 587), tls from the first byte (465), or off (25)."
    )
    email_user: str = setting("", "Logs in to the mail server.")
    email_password: str = setting("", "Its password; better given as FREEHOLD_ALERTS_EMAIL_PASSWORD.")


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = setting("info", "Least severe event that is logged.")
    format: Literal["auto", "human", "json"] = setting("auto", "auto: human on a terminal, else json.")


SECTIONS: dict[str, type[Any]] = {
    "server": ServerConfig,
    "model": ModelConfig,
    "engine": EngineConfig,
    "store": StoreConfig,
    "pipe": PipeConfig,
    "observe": ObserveConfig,
    "alerts": AlertsConfig,
    "log": LogConfig,
}
