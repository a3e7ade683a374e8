"""Which kernels the programs of an LLM run, before any of them is compiled."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from muxjax.pallas_kernels.implementation import Choice, Implementation, choose
from muxjax.pallas_kernels.paged_decode import api as decode
from muxjax.pallas_kernels.pool_write import api as write
from muxjax.pallas_kernels.ragged_prefill import api as prefill
from muxjax.serving.plan import LLMPlan
from muxjax.serving.spec import PoolSpec

_ROWS = 16  # and as many blocks and pages: what implementations support does not depend on these


def kernel_choices(llm: LLMPlan, pool: PoolSpec, device: Any = None) -> Mapping[str, Choice]:
    """The implementation of each operation that the LLM's programs get by themselves on a device, and why.

    The operations are traced with the LLM's own shapes, of its heads on one device, and options: what refuses them here
    refuses them there.

    Args:
        llm: as planned.
        pool: of its unit.
        device: a jax.Device; None is JAX's first.
    """
    config = llm.config
    kv_heads = llm.kv_heads
    queries = _floats(llm.spec.dtype, _ROWS, config.num_heads // llm.tensor_parallel, config.head_dim)
    keys = _floats(llm.spec.dtype, _ROWS, kv_heads, config.head_dim)
    lane = pool.block_elements // llm.page_tokens
    view = _floats(pool.dtype, _ROWS, 2, llm.page_tokens, lane)
    past = (queries, keys, keys, view, _ints(_ROWS, kv_heads), _ints(_ROWS, _ROWS))
    options: dict[str, Any] = {
        "sm_scale": config.sm_scale,
        "soft_cap": config.attention_soft_cap,
        "sliding_window": config.sliding_window,  # of some of the layers
    }
    new = _floats(llm.spec.dtype, config.num_layers, _ROWS, kv_heads, config.head_dim)
    unit_pool = _floats(pool.dtype, _ROWS, 2, pool.block_tokens, pool.lane)
    written = (unit_pool, new, new, _ints(config.num_layers, _ROWS, kv_heads), _ints(_ROWS))
    attempts: Mapping[str, tuple[Collection[Implementation], Callable[..., Any], tuple[Any, ...]]] = {
        "paged_decode": (
            decode.IMPLEMENTATIONS,
            partial(decode.paged_decode, **options),
            (*past, _ints(_ROWS)),
        ),
        "ragged_prefill": (
            prefill.IMPLEMENTATIONS,
            partial(prefill.ragged_prefill, **options),
            (*past, _ints(_ROWS + 1), _ints(_ROWS)),
        ),
        "pool_write": (write.IMPLEMENTATIONS, write.pool_write, written),
    }

    def attempt(run: Callable[..., Any], inputs: tuple[Any, ...], name: Implementation) -> None:
        jax.eval_shape(partial(run, implementation=name), *inputs)

    return {
        operation: choose(names, partial(attempt, run, inputs), device)[0]
        for operation, (names, run, inputs) in attempts.items()
    }


def _floats(dtype: str, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def _ints(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)
