"""Times of one model's prefill and decode programs on this device, as the engine runs them."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from muxjax.models.load import LoadedModel
from muxjax.serving.executor.program import DecodeInputs, PrefillInputs, Programs
from muxjax.serving.pool import Pool
from muxjax.serving.spec import PoolSpec

_LLM = "profiled"


class ProfiledModel:
    """A model whose layers are one by one, with its compiled programs."""

    def __init__(self, model: LoadedModel, dtype: str, repeats: int) -> None:
        graph, params = nnx.split(model.decoder)
        leaves, structure = jax.tree.flatten(params)
        self._leaves, self._config = tuple(leaves), model.config
        self._dtype, self._repeats = dtype, repeats
        head_dim = 1 << (model.config.head_dim - 1).bit_length()
        programs = Programs(graph, structure, head_dim=head_dim, max_context=model.config.max_context)
        self._prefill = jax.jit(programs.prefill, donate_argnums=1)
        self._decode = jax.jit(programs.decode, donate_argnums=1)

    def prefill_ms(self, batch: int, length: int) -> float:
        """A prefill of `batch` prompts of `length` tokens; -1 where the device has too little memory."""
        pool, page_blocks, page_table = self._make_pool(batch, length)
        inputs = PrefillInputs(
            token_ids=np.ones(batch * length, np.int32),
            query_start_loc=np.arange(batch + 1, dtype=np.int32) * length,
            slots=np.arange(batch, dtype=np.int32),
            kv_lens=np.full(batch, length, np.int32),
            page_table=page_table,
            lengths=np.full(batch, length, np.int32),
        )
        on_device = PrefillInputs(*jax.device_put(tuple(inputs)))
        return self._median_ms(pool, lambda pool: self._prefill(self._leaves, pool, page_blocks, on_device))

    def decode_ms(self, batch: int, length: int) -> float:
        """A decode step of `batch` sequences of `length` tokens; -1 where the device has too little memory."""
        pool, page_blocks, page_table = self._make_pool(batch, length)
        inputs = (np.arange(batch, dtype=np.int32), np.full(batch, length, np.int32), page_table)
        on_device = DecodeInputs(*jax.device_put(inputs))
        tokens = jnp.ones(batch, jnp.int32)
        return self._median_ms(pool, lambda pool: self._decode(self._leaves, pool, tokens, page_blocks, on_device))

    def _make_pool(self, batch: int, length: int) -> tuple[Callable[[], jax.Array], jax.Array, np.ndarray]:
        """How to make a pool that just holds the sequences, and where they are in it."""
        config, spec = self._config, PoolSpec(2, dtype=self._dtype)
        page_tokens = spec.block_elements // (1 << (config.head_dim - 1).bit_length())
        pages = -(-length // page_tokens)
        blocks = 1 + pages * batch * config.num_layers * config.num_kv_heads
        books = Pool(blocks, spec.block_elements)
        books.add_llm(_LLM, config.num_layers, config.num_kv_heads, config.head_dim)
        for sequence in range(batch):
            books.allocate(_LLM, sequence, pages)
        shape = (blocks, 2, spec.block_tokens, spec.lane)
        page_table = books.page_tables(_LLM, list(range(batch)), pages)
        return partial(jnp.zeros, shape, jnp.dtype(self._dtype)), jnp.asarray(books.page_blocks(_LLM)), page_table

    def _median_ms(
        self, make_pool: Callable[[], jax.Array], job: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    ) -> float:
        try:
            pool, logits = job(make_pool())
            jax.block_until_ready(logits)
            taken = []
            for _ in range(self._repeats):
                started = time.perf_counter()
                pool, logits = job(pool)
                jax.block_until_ready((pool, logits))
                taken.append(time.perf_counter() - started)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return -1
        return round(statistics.median(taken) * 1000, 4)
