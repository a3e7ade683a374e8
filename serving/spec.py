"""What a unit is made of, as the engine needs it."""

from dataclasses import dataclass, field
from typing import Literal

_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

Overlap = Literal["interleaved", "packed", "concurrent"]
"""How the jobs of a step run: one program after another, or all as one program; with `concurrent`, a GPU may run what
does not depend on each other side by side in it."""


@dataclass(frozen=True, slots=True)
class SLO:
    """How fast an LLM is to be, in seconds; None promises nothing.

    Attributes:
        ttft: from a request's arrival to its first token, at most.
        tpot: mean time between its tokens, at most.
    """

    ttft: float | None = None
    tpot: float | None = None


@dataclass(frozen=True, slots=True)
class LLMSpec:
    """One LLM to serve.

    Attributes:
        name: what clients call it.
        source: a checkpoint directory, `demo:NAME` or `random:CONFIG.json`.
        dtype: of the weights: float32, bfloat16 or float16.
        rate: its popularity, requests/s; only ratios between LLMs matter.
        max_context: the most tokens of one sequence; None takes the model's own.
        max_sequences: how many sequences run at once, at most.
        max_waiting: how many sequences wait, at most; more are refused.
        slo: how fast it is to be; None promises nothing.
        quantization: "int8" keeps the weights of products in eight bits; None keeps them in `dtype`.
    """

    name: str
    source: str
    dtype: str = "float32"
    rate: float = 1.0
    max_context: int | None = None
    max_sequences: int = 32
    max_waiting: int = 1024
    slo: SLO | None = None
    quantization: Literal["int8"] | None = None


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """The unit's KV buffer.

    Attributes:
        num_blocks: head blocks of the pool, the null block included; 0 for as many as fit (`memory.fit_pool`).
        block_tokens: tokens of a head block at head size `lane`.
        lane: elements of one token's key (or value) in a head block.
        dtype: of the keys and values.
    """

    num_blocks: int
    block_tokens: int = 32
    lane: int = 128
    dtype: str = "float32"

    @property
    def block_elements(self) -> int:
        """Elements of a head block's keys (its values have as many)."""
        return self.block_tokens * self.lane

    @property
    def block_bytes(self) -> int:
        """Memory of one head block, its keys and its values."""
        return 2 * self.block_elements * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class SchedulingSpec:
    """How jobs are chosen.

    Attributes:
        policy: adbs, fcfs or round_robin.
        max_prefill_tokens: the most tokens of one prefill chunk: the compute share, which bounds how long decodes wait.
        quota_period: seconds between adaptations of the quotas.
        max_waiting: how many sequences wait, of all LLMs together, at most; more are refused.
        overlap: how the jobs of a step run together.
        chunks: whether prefill chunks are as large as they may be, or as the LLMs' objectives let them be.
        max_decode_steps: the most decode steps that the device is given at once, while nothing waits.
    """

    policy: str = "adbs"
    max_prefill_tokens: int = 512
    quota_period: float = 8.0
    max_waiting: int = 4096
    overlap: Overlap = "interleaved"
    chunks: Literal["slo", "fixed"] = "slo"
    max_decode_steps: int = 1


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """A group of LLMs that share devices and a pool.

    Attributes:
        llms: the LLMs.
        pool: as large on each device.
        scheduling: how their jobs are chosen.
        tensor_parallel: over how many devices each LLM, and the pool with it, is spread.
    """

    llms: tuple[LLMSpec, ...]
    pool: PoolSpec
    scheduling: SchedulingSpec = field(default_factory=SchedulingSpec)
    tensor_parallel: int = 1
