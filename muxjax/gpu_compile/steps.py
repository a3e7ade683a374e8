"""Whole steps: all layers of one LLM or of several, as the engine compiles them; weights are shapes only."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from muxjax.gpu_compile.case import Program
from muxjax.gpu_compile.mesh import gpu_mesh
from muxjax.models.config import DecoderConfig
from muxjax.models.load import Quantization, load_shapes
from muxjax.models.sharding import kv_heads_per_device
from muxjax.serving.executor.buckets import MAX_PREFILL_SEQUENCES
from muxjax.serving.executor.program import DecodeInputs, JobInputs, LLMInputs, PrefillInputs, Programs
from muxjax.serving.executor.spmd import WHOLE, pool_shape, spread_step
from muxjax.serving.pool import Pool
from muxjax.serving.spec import PoolSpec

MODELS = Path(__file__).parent / "models"
_DTYPE = "bfloat16"
_POOL = PoolSpec(num_blocks=100_003, dtype=_DTYPE)  # a size that nothing else has


@dataclass(frozen=True, slots=True)
class Part:
    """One LLM's jobs in a step: sequences of its decode, tokens of its prefill; its weights may be quantized."""

    model: str
    decode: int = 0
    prefill: int = 0
    quantization: Quantization | None = None

    def __str__(self) -> str:
        jobs = {"decode": self.decode, "prefill": self.prefill}
        weights = "" if self.quantization is None else f" {self.quantization}"
        return f"{self.model}{weights} {' and '.join(f'{job} {size}' for job, size in jobs.items() if size)}"


STEPS = (
    (Part("llama-2-7b", decode=64),),
    (Part("llama-2-7b", prefill=512),),
    (Part("llama-2-13b", decode=64),),
    (Part("llama-2-13b", prefill=512),),
    (Part("llama-3-8b", decode=64),),
    (Part("llama-3-8b", prefill=512),),
    (Part("llama-3-8b", decode=64, quantization="int8"),),
    (Part("llama-3-8b", prefill=512, quantization="int8"),),
    (Part("llama-3.2-1b", decode=128),),  # heads of 64
    (Part("llama-3.2-1b", prefill=2048),),
    (Part("gemma-2-9b", decode=32),),  # heads of 256, soft caps and windows
    (Part("gemma-2-9b", prefill=512),),
    (Part("qwen3-30b-a3b", decode=64),),  # 128 experts in each layer
    (Part("qwen3-30b-a3b", prefill=2048),),
    (Part("mixtral-8x7b", decode=64, quantization="int8"),),
    (Part("llama-2-7b", prefill=512), Part("llama-2-13b", decode=64)),
    (Part("llama-2-7b", decode=64), Part("llama-2-13b", decode=32), Part("llama-3-8b", decode=64, prefill=512)),
)

# On several GPUs.
SPREAD_STEPS = (
    (2, (Part("mixtral-8x7b", prefill=512),)),
    (4, (Part("llama-3-70b", decode=64),)),
    (4, (Part("llama-3-70b", prefill=512),)),
    (4, (Part("llama-3-8b", prefill=512), Part("llama-2-13b", decode=64))),
)

_ON_AMPERE = {"llama-3-8b", "gemma-2-9b"}


@dataclass(frozen=True, slots=True)
class StepCase:
    """The jobs of a step, as one program, on one GPU or several."""

    parts: tuple[Part, ...]
    target: str
    devices: int = 1

    @property
    def name(self) -> str:
        where = f", on {self.devices}" if self.devices > 1 else ""
        return f"step {' + '.join(map(str, self.parts))}{where}"

    def program(self) -> Program:
        """The function that the engine compiles for these jobs, with the kernels that it takes by itself."""
        mesh = gpu_mesh(self.target, self.devices)
        llms = [AbstractLLM.of(f"random:{MODELS / part.model}.json", mesh, part.quantization) for part in self.parts]
        inputs = tuple(llm.inputs(part.decode, part.prefill) for llm, part in zip(llms, self.parts, strict=True))
        kernels = {"paged_decode": any(part.decode for part in self.parts), "pool_write": True}
        kernels["ragged_prefill"] = any(part.prefill for part in self.parts)
        kernels["grouped_matmul"] = any(llm.config.experts is not None for llm in llms)
        return Program(
            spread_step([llm.functions for llm in llms], mesh, inputs),
            (pool_shape(_POOL, mesh), inputs),
            sum(llm.temp_bound(part.decode, part.prefill) for llm, part in zip(llms, self.parts, strict=True)),
            pool=0,
            writes_pool=True,
            kernels=tuple(name for name, is_used in kernels.items() if is_used),
            is_one_command_buffer=True,
            summed_elements=sum(
                llm.summed_elements(part.decode, part.prefill) for llm, part in zip(llms, self.parts, strict=True)
            ),
        )


def step_cases() -> Iterator[StepCase]:
    """All of them for Hopper, and some for Ampere, which differ in their kernels only."""
    yield from (StepCase(parts, "sm_90a") for parts in STEPS)
    yield from (StepCase((part,), "sm_80") for part, *others in STEPS if not others and _is_for_ampere(part))
    yield from (StepCase(parts, "sm_90a", devices) for devices, parts in SPREAD_STEPS)


def _is_for_ampere(part: Part) -> bool:
    return part.model in _ON_AMPERE and part.quantization is None


@dataclass(frozen=True)
class AbstractLLM:
    """An LLM without weights.

    Attributes:
        config: its shape.
        functions: those that the engine compiles.
        leaves: its parameters' shapes, each layer's by themselves.
        page_tokens: tokens of a page.
        mesh: the devices that it is spread over.
    """

    config: DecoderConfig
    functions: Programs
    leaves: tuple[Any, ...]
    page_tokens: int
    mesh: Mesh

    @classmethod
    def of(cls, source: str, mesh: Mesh, quantization: Quantization | None = None) -> "AbstractLLM":
        """The LLM that a model source names. Raises ModelError."""
        decoder = load_shapes(source, dtype=_DTYPE, mesh=mesh, quantization=quantization)
        graph, params = nnx.split(decoder)
        leaves, structure = jax.tree.flatten(params)
        config = decoder.config
        pool = Pool(_POOL.num_blocks, _POOL.block_elements)
        pool.add_llm("llm", config.num_layers, kv_heads_per_device(config, mesh.size), config.head_dim)
        page_tokens = pool.page_tokens("llm")
        functions = Programs(
            graph,
            structure,
            head_dim=pool.block_elements // page_tokens,
            max_context=config.max_context,
            length_switch=config.length_switch,
        )
        return cls(config, functions, tuple(leaves), page_tokens, mesh)

    @property
    def kv_heads(self) -> int:
        """Of each device."""
        return kv_heads_per_device(self.config, self.mesh.size)

    def summed_elements(self, decode: int, prefill: int) -> int:
        """All rows' hidden states, of the embedding, and in each layer after attention and after the MLP."""
        sums = 2 * self.config.num_layers + 1 if self.mesh.size > 1 else 0
        return sums * (decode + prefill) * self.config.hidden_size

    def inputs(self, decode: int, prefill: int) -> LLMInputs[Any]:
        """The shapes of what it brings into a step."""
        jobs: list[JobInputs[Any]] = []
        if decode:
            jobs.append(DecodeInputs(self._ints(decode), self._ints(decode), self._page_table(decode)))
        if prefill:
            sequences = self._ints(MAX_PREFILL_SEQUENCES)
            starts, pages = self._ints(MAX_PREFILL_SEQUENCES + 1), self._page_table(MAX_PREFILL_SEQUENCES)
            jobs.append(PrefillInputs(self._ints(prefill), starts, sequences, sequences, pages, sequences))
        layers = self.config.num_layers
        blocks: Any = self._ints(layers, 1 + _POOL.num_blocks // (layers * self.kv_heads), self.kv_heads)
        last_tokens: Any = self._ints(max(decode, MAX_PREFILL_SEQUENCES) + 1)
        return LLMInputs(self.leaves, blocks, last_tokens, tuple(jobs))

    def temp_bound(self, decode: int, prefill: int) -> int:
        """Bytes that its jobs may take on each device: far less than weights, pool, or the past of its sequences.

        The new keys and values, layer by layer and then together; three times the logits; some layers' activations in
        float32; and the weights of one layer, in the order in which a product wants them, but never those of experts,
        nor a wider copy of those that are quantized.
        """
        config, rows, devices = self.config, decode + prefill, self.mesh.size
        sampled = decode + (MAX_PREFILL_SEQUENCES if prefill else 0)
        new = 2 * 2 * config.num_layers * rows * self.kv_heads * config.head_dim
        if (experts := config.experts) is None:
            inner = 4 * config.intermediate_size // devices
        else:
            inner = experts.per_token * (config.hidden_size + 2 * experts.intermediate_size // devices)
        activations = 4 * rows * (8 * config.hidden_size + inner)
        stacks = () if experts is None else (experts.num_experts,)
        ordered = [leaf for leaf in self.leaves if leaf.dtype == _DTYPE and leaf.shape[0] not in stacks]
        layer = 2 * sum(math.prod(leaf.shape) for leaf in ordered) // (devices * config.num_layers)
        return 2 * new + 3 * 4 * sampled * config.vocab_size // devices + activations + layer

    def _page_table(self, sequences: int) -> jax.ShapeDtypeStruct:
        return self._ints(sequences, math.ceil(self.config.max_context / self.page_tokens))

    def _ints(self, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=NamedSharding(self.mesh, WHOLE))
