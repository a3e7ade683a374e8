"""Whole steps: all layers of one LLM or of several, as the engine compiles them; weights are shapes only."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from muxjax.gpu_compile.case import Program
from muxjax.models.config import DecoderConfig
from muxjax.models.source import find_model
from muxjax.serving.executor.buckets import MAX_PREFILL_SEQUENCES
from muxjax.serving.executor.program import DecodeInputs, JobInputs, LLMInputs, PrefillInputs, Programs, run_step
from muxjax.serving.pool import Pool
from muxjax.serving.spec import PoolSpec

_MODELS = Path(__file__).parent / "models"
_DTYPE = "bfloat16"
_POOL = PoolSpec(num_blocks=100_003, dtype=_DTYPE)  # a size that nothing else has


@dataclass(frozen=True, slots=True)
class Part:
    """One LLM's jobs in a step: sequences of its decode, tokens of its prefill."""

    model: str
    decode: int = 0
    prefill: int = 0

    def __str__(self) -> str:
        jobs = {"decode": self.decode, "prefill": self.prefill}
        return f"{self.model} {' and '.join(f'{job} {size}' for job, size in jobs.items() if size)}"


STEPS = (
    (Part("llama-2-7b", decode=64),),
    (Part("llama-2-7b", prefill=512),),
    (Part("llama-2-13b", decode=64),),
    (Part("llama-2-13b", prefill=512),),
    (Part("llama-3-8b", decode=64),),
    (Part("llama-3-8b", prefill=512),),
    (Part("llama-3.2-1b", decode=128),),  # heads of 64
    (Part("llama-3.2-1b", prefill=2048),),
    (Part("gemma-2-9b", decode=32),),  # heads of 256, soft caps and windows
    (Part("gemma-2-9b", prefill=512),),
    (Part("llama-2-7b", prefill=512), Part("llama-2-13b", decode=64)),
    (Part("llama-2-7b", decode=64), Part("llama-2-13b", decode=32), Part("llama-3-8b", decode=64, prefill=512)),
)

_ON_AMPERE = {"llama-3-8b", "gemma-2-9b"}


@dataclass(frozen=True, slots=True)
class StepCase:
    """The jobs of a step, as one program."""

    parts: tuple[Part, ...]
    target: str

    @property
    def name(self) -> str:
        return f"step {' + '.join(map(str, self.parts))}"

    def program(self) -> Program:
        """The function that the engine compiles for these jobs, with the kernels that it takes by itself."""
        llms = [AbstractLLM.of(f"random:{_MODELS / part.model}.json") for part in self.parts]
        inputs = tuple(llm.inputs(part.decode, part.prefill) for llm, part in zip(llms, self.parts, strict=True))
        pool = jax.ShapeDtypeStruct((_POOL.num_blocks, 2, _POOL.block_tokens, _POOL.lane), _DTYPE)
        kernels = {"paged_decode": any(part.decode for part in self.parts), "pool_write": True}
        kernels["ragged_prefill"] = any(part.prefill for part in self.parts)
        return Program(
            partial(run_step, tuple(llm.functions for llm in llms)),
            (pool, inputs),
            sum(llm.temp_bound(part.decode, part.prefill) for llm, part in zip(llms, self.parts, strict=True)),
            pool=0,
            writes_pool=True,
            kernels=tuple(name for name, is_used in kernels.items() if is_used),
            is_one_command_buffer=True,
            is_spread=True,
        )


def step_cases() -> Iterator[StepCase]:
    """All of them for Hopper, and some for Ampere, which differ in their kernels only."""
    yield from (StepCase(parts, "sm_90a") for parts in STEPS)
    yield from (StepCase(parts, "sm_80") for parts in STEPS if parts[0].model in _ON_AMPERE and len(parts) == 1)


@dataclass(frozen=True)
class AbstractLLM:
    """An LLM without weights.

    Attributes:
        config: its shape.
        functions: those that the engine compiles.
        leaves: its parameters' shapes, each layer's by themselves.
        page_tokens: tokens of a page.
    """

    config: DecoderConfig
    functions: Programs
    leaves: tuple[Any, ...]
    page_tokens: int

    @classmethod
    def of(cls, source: str) -> "AbstractLLM":
        """The LLM that a model source names. Raises ModelError."""
        found = find_model(source)
        skeleton = found.skeleton(_DTYPE, unroll=True)
        shapes: Mapping[str, Any] = skeleton.leaves
        graph, params = nnx.split(skeleton.fill(shapes))
        leaves, structure = jax.tree.flatten(params)
        config = found.config
        pool = Pool(_POOL.num_blocks, _POOL.block_elements)
        pool.add_llm("llm", config.num_layers, config.num_kv_heads, config.head_dim)
        page_tokens = pool.page_tokens("llm")
        functions = Programs(
            graph,
            structure,
            head_dim=pool.block_elements // page_tokens,
            max_context=config.max_context,
            length_switch=config.length_switch,
        )
        return cls(config, functions, tuple(leaves), page_tokens)

    def inputs(self, decode: int, prefill: int) -> LLMInputs[Any]:
        """The shapes of what it brings into a step."""
        jobs: list[JobInputs[Any]] = []
        if decode:
            jobs.append(DecodeInputs(_ints(decode), _ints(decode), self._page_table(decode)))
        if prefill:
            sequences = _ints(MAX_PREFILL_SEQUENCES)
            starts, pages = _ints(MAX_PREFILL_SEQUENCES + 1), self._page_table(MAX_PREFILL_SEQUENCES)
            jobs.append(PrefillInputs(_ints(prefill), starts, sequences, sequences, pages, sequences))
        config = self.config
        num_pages = 1 + _POOL.num_blocks // (config.num_layers * config.num_kv_heads)
        blocks: Any = _ints(config.num_layers, num_pages, config.num_kv_heads)
        last_tokens: Any = _ints(max(decode, MAX_PREFILL_SEQUENCES) + 1)
        return LLMInputs(self.leaves, blocks, last_tokens, tuple(jobs))

    def temp_bound(self, decode: int, prefill: int) -> int:
        """Bytes that its jobs may take: far less than its weights, the pool, or the past of its sequences.

        The new keys and values, layer by layer and then together; three times the logits; some layers' activations in
        float32; and the weights of one layer, in the order in which a product wants them.
        """
        config, rows = self.config, decode + prefill
        sampled = decode + (MAX_PREFILL_SEQUENCES if prefill else 0)
        new = 2 * 2 * config.num_layers * rows * config.num_kv_heads * config.head_dim
        activations = 4 * rows * (8 * config.hidden_size + 4 * config.intermediate_size)
        layer = 2 * sum(math.prod(leaf.shape) for leaf in self.leaves) // config.num_layers
        return 2 * new + 3 * 4 * sampled * config.vocab_size + activations + layer

    def _page_table(self, sequences: int) -> jax.ShapeDtypeStruct:
        return _ints(sequences, math.ceil(self.config.max_context / self.page_tokens))


def _ints(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)
