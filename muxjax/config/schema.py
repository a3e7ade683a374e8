"""Every field of the configuration, with its meaning, bounds and default; docs/configuration.md is made from it."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from muxjax.config.fields import Bytes, File, Module, Name, OptionalPath, Source

Dtype = Literal["float32", "bfloat16", "float16"]


class Section(BaseModel):
    """Frozen; values keep their YAML types; unknown keys are errors; a key without a value has the defaults."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, data: object) -> object:
        return {} if data is None else data


class SLOConfig(Section):
    """How fast an LLM is to be. `status`, `/metrics` and `muxjax.top` show which share of completions was."""

    ttft: float | None = Field(
        default=None, gt=0, description="Most seconds from a request's arrival to its first token."
    )
    tpot: float | None = Field(
        default=None, gt=0, description="Most seconds between its tokens, on average over a completion."
    )


class LLM(Section):
    """One LLM to serve. Only its source needs to be given, so `name: SOURCE` is short for `name: {source: SOURCE}`."""

    source: Source = Field(
        description="A checkpoint's folder (Hugging Face or Orbax), `demo:NAME`, or `random:CONFIG.json` for a shape "
        "without weights. Paths are relative to the configuration file."
    )
    dtype: Dtype | None = Field(
        default=None, description="Type of the weights. Default: `bfloat16` on a GPU, `float32` on a CPU."
    )
    quantization: Literal["int8"] | None = Field(
        default=None,
        description="`int8` keeps the weights of products in eight bits, with a scale of each output channel, and "
        "computes in `dtype`: a quarter of `float32`'s memory, half of `bfloat16`'s. Default: none.",
    )
    rate: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="Popularity, requests/s; memory is first divided by it and by the models' sizes.",
    )
    max_context: int | None = Field(
        default=None,
        ge=2,
        description="Most tokens of a prompt and its completion. Default: what the model was made for.",
    )
    max_sequences: int = Field(default=32, ge=1, le=1024, description="Most sequences that run at once.")
    max_waiting: int = Field(
        default=1024, ge=1, le=1_000_000, description="Most sequences that wait; more are refused."
    )
    slo: SLOConfig | None = Field(
        default=None,
        description="How fast it is to be, for example `{ttft: 0.5, tpot: 0.05}`. Default: nothing is promised.",
    )

    @model_validator(mode="before")
    @classmethod
    def _source_alone(cls, data: object) -> object:
        return {"source": data} if isinstance(data, str) else data


class PoolConfig(Section):
    """The one pool of memory that holds the keys and values of all LLMs.

    It is cut into head blocks: the keys and values of one head of one layer for a few tokens.
    """

    memory: Bytes | None = Field(
        default=None,
        gt=0,
        description="Size of the pool on each device, such as `2GiB`. Default: `512MiB` on a CPU; on a GPU, what "
        "weights and programs leave of its memory.",
    )
    blocks: int | None = Field(
        default=None, ge=2, description="Size of the pool on each device in head blocks, instead of `memory`."
    )
    block_tokens: int = Field(
        default=32, ge=1, le=1024, description="Tokens of a head block, for heads of `lane` elements."
    )
    lane: int = Field(
        default=128, ge=32, le=1024, description="Elements of one token's key in a head block; a power of two."
    )
    dtype: Dtype | None = Field(
        default=None, description="Type of keys and values. Default: `bfloat16` on a GPU, `float32` on a CPU."
    )

    @field_validator("block_tokens", "lane")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"must be a power of two, not {value}")
        return value

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.memory is not None and self.blocks is not None:
            raise ValueError("has both memory and blocks: keep one of them")
        return self


class DeviceConfig(Section):
    """What this process takes of its device."""

    memory_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of a GPU's memory that this process takes, at its start, and keeps to: so several processes "
        "run on one GPU. Default: three quarters, which is XLA's own.",
    )


class SchedulerConfig(Section):
    """Which LLM's work runs next."""

    policy: Literal["adbs", "fcfs", "round_robin"] = Field(
        default="adbs",
        description="`adbs`: adaptive batch scheduling, with a quota of the pool for each LLM. `fcfs`: first come, "
        "first served. `round_robin`: LLMs in turn.",
    )
    max_prefill_tokens: int = Field(
        default=512,
        ge=16,
        le=65_536,
        description="Most tokens of one prefill chunk: bounds how long running completions wait.",
    )
    chunks: Literal["slo", "fixed"] = Field(
        default="slo",
        description="`slo`: a prefill chunk beside completions of a model whose `slo` has a `tpot` is as large as that "
        "allows, by what steps took lately, or as large as the prompt's own `ttft` asks for. `fixed`: chunks of "
        "`max_prefill_tokens`.",
    )
    max_decode_steps: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Most decode steps that the device is given at once while nothing waits. A prompt that comes then "
        "waits for them, and a completion that stops early computes the rest of them in vain.",
    )
    overlap: Literal["interleaved", "packed", "concurrent"] = Field(
        default="interleaved",
        description="How the jobs of a step, of several models, run: `interleaved`, one program after another; "
        "`packed`, one program for all of them, compiled in the background when it is first wanted; `concurrent`, "
        "likewise, and on a GPU operations that do not depend on each other may run side by side in it.",
    )
    quota_period: float = Field(default=8.0, gt=0, le=86_400, description="Seconds between adaptations of the quotas.")
    max_waiting: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="Most sequences that wait, of all models together; more are refused. Where API keys are asked for, "
        "none may take more of these places, nor of a model's `max_waiting`, than are left free.",
    )


class TLSConfig(Section):
    """Encryption of gRPC and HTTP; all files are PEM."""

    certificate: File = Field(description="The server's certificate, and those that lead to its root.")
    key: File = Field(description="The certificate's key, without a passphrase.")
    client_ca: File | None = Field(
        default=None,
        description="Only clients with a certificate that this one signed get in (mutual TLS). Default: all do.",
    )


class ServerConfig(Section):
    """Where the server listens and what it takes."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on; `0.0.0.0` is every IPv4 one."
    )
    port: int = Field(default=50051, ge=0, le=65_535, description="Port of the gRPC service; 0 finds a free one.")
    http_port: int | None = Field(
        default=8000,
        ge=0,
        le=65_535,
        description="Port of the OpenAI-compatible HTTP; 0 finds a free one, `null` leaves it out.",
    )
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="Port of the admin service, on this machine only ([operations.md](operations.md)); 0 finds a free "
        "one. Default: there is none.",
    )
    admin_key: File | None = Field(
        default=None,
        description="File with the key that the admin service asks for. Default: everyone on this machine may use it.",
    )
    api_keys: File | None = Field(
        default=None,
        description="YAML file of API keys ([security.md](security.md)). Default: none are asked for.",
    )
    tls: TLSConfig | None = Field(default=None, description="Encryption. Default: none.")
    max_message_bytes: Bytes = Field(
        default=4 << 20, ge=1024, le=1 << 30, description="Largest request that is read, such as `4MiB`."
    )
    max_requests: int = Field(
        default=1024, ge=1, le=100_000, description="Most requests that run or wait at a time; more are refused."
    )
    request_timeout: float | None = Field(
        default=600.0,
        gt=0,
        description="Seconds after which a request without an earlier deadline ends; `null`: never.",
    )
    engine_timeout: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="Seconds that the engine's loop may take for one turn. After that health is NOT_SERVING, what runs "
        "ends with an error and nothing new is taken, until the loop goes on.",
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        description="Seconds that running requests have to finish after SIGTERM or Ctrl-C.",
    )


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muxjax" / "xla"


class LoggingConfig(Section):
    """What is written to standard error: a line for each request that ended, and all that goes wrong.

    No line holds a prompt, a completion or a key.
    """

    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="`text`, `json` (one object a line), or `auto`: text on a terminal, else JSON."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines; `warning` leaves out those of requests."
    )


class CompileConfig(Section):
    """What is kept of compiled programs."""

    cache: OptionalPath = Field(
        default_factory=_default_cache,
        description="Folder where compiled programs are kept for the next start; `off` keeps none. Default: "
        "`~/.cache/muxjax/xla` (under `$XDG_CACHE_HOME` if that is set).",
    )


def _demo_models() -> dict[str, LLM]:
    return {name: LLM.model_construct(source=f"demo:{name}") for name in ("code", "prose", "arithmetic")}


class Config(Section):
    """The whole file. Every section can be left out."""

    llms: dict[Name, LLM] = Field(
        default_factory=_demo_models,
        min_length=1,
        description="The LLMs to serve, by the names that clients use. Default: the demo models.",
    )
    architectures: list[Module] = Field(
        default_factory=list,
        description="Python modules to import first, which register architectures of your own "
        "([extending.md](extending.md)).",
    )
    tensor_parallel: Literal[1, 2, 4, 8] = Field(
        default=1,
        description="Over how many devices of this machine, the first ones, every LLM is spread: `1`, `2`, `4` or `8`. "
        "It must divide an LLM's query heads, and its KV heads or be a multiple of them. Default: `1`.",
    )
    pool: PoolConfig = Field(default_factory=lambda: PoolConfig())
    device: DeviceConfig = Field(default_factory=lambda: DeviceConfig())
    scheduler: SchedulerConfig = Field(default_factory=lambda: SchedulerConfig())
    server: ServerConfig = Field(default_factory=lambda: ServerConfig())
    logging: LoggingConfig = Field(default_factory=lambda: LoggingConfig())
    compile: CompileConfig = Field(default_factory=lambda: CompileConfig())
