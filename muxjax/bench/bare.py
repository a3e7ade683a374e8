"""An LLM's compiled decode programs alone: no scheduler, no requests, no tokens to hand out."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from muxjax.models.load import LoadedModel
from muxjax.serving.executor.program import DecodeInputs, Programs, sample_next
from muxjax.serving.executor.slots import SamplingTable, SlotState
from muxjax.serving.executor.spmd import POOL, STATE, VOCABULARY, WHOLE, spread
from muxjax.serving.pool import Pool
from muxjax.serving.spec import PoolSpec

_LLM = "bare"


class BareDecode:
    """Decodes a full batch of sequences of one length, step by step, its inputs prepared beforehand.

    The programs, the pool's layout and the donated state are those that the engine runs.
    """

    def __init__(
        self,
        model: LoadedModel,
        spec: PoolSpec,
        *,
        batch_size: int,
        first_length: int,
        steps: int,
        mesh: Mesh | None = None,
    ) -> None:
        """`first_length` tokens are in the pool at the first of the `steps`.

        On a `mesh` of one device programs run through `jax.shard_map`, as the engine's do; without one they do not.
        """
        config = model.config
        books = Pool(spec.num_blocks, spec.block_elements)
        books.add_llm(_LLM, config.num_layers, config.num_kv_heads, config.head_dim)
        pages = -(-(first_length + steps) // books.page_tokens(_LLM))
        for sequence in range(batch_size):
            books.allocate(_LLM, sequence, pages)
        slots = np.arange(batch_size, dtype=np.int32)
        page_table = books.page_tables(_LLM, list(range(batch_size)), pages)
        self._inputs = [
            DecodeInputs(*jax.device_put((slots, np.full(batch_size, first_length + step + 1, np.int32), page_table)))
            for step in range(steps)
        ]
        model.decoder.unroll()
        graph, params = nnx.split(model.decoder)
        leaves, structure = jax.tree.flatten(params)
        self._leaves = tuple(leaves)
        self._page_blocks = jnp.asarray(books.page_blocks(_LLM).copy())
        self._pool = jnp.zeros((spec.num_blocks, 2, spec.block_tokens, spec.lane), jnp.dtype(spec.dtype))
        self._state = SlotState.empty(batch_size, config.vocab_size)
        self._options = SamplingTable(batch_size, config.vocab_size).on_device()
        head_dim = spec.block_elements // books.page_tokens(_LLM)
        programs = Programs(graph, structure, head_dim=head_dim, max_context=config.max_context)
        decode: Callable[..., Any] = programs.decode
        sample: Callable[..., Any] = sample_next
        if mesh is not None:
            decode = spread(decode, mesh, (WHOLE, POOL, WHOLE, WHOLE, WHOLE), (POOL, VOCABULARY))
            sample = spread(sample, mesh, (STATE, WHOLE, WHOLE, WHOLE, VOCABULARY), (STATE, WHOLE))
        self._forward = jax.jit(decode, donate_argnums=1)
        self._sample = jax.jit(sample, donate_argnums=0)
        self._run_step(self._inputs[0])

    def seconds(self) -> float:
        """Run all steps back to back, waiting for the device only at the end."""
        jax.block_until_ready(self._state)
        started = time.perf_counter()
        for inputs in self._inputs:
            self._run_step(inputs)
        jax.block_until_ready(self._state)
        return time.perf_counter() - started

    def _run_step(self, inputs: DecodeInputs[Array]) -> None:
        self._pool, logits = self._forward(self._leaves, self._pool, self._state.last_tokens, self._page_blocks, inputs)
        self._state, _ = self._sample(self._state, self._options, inputs.slots, inputs.kv_lens, logits)
