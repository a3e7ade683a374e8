"""JAX's own paged_attention for GPUs on the same batches, with the best of some settings."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from muxjax.bench.isolated import Case
from muxjax.bench.kernels.decode import fits, moved_bytes, sizes
from muxjax.bench.kernels.paged import DTYPE, random_heads
from muxjax.bench.kernels.scale import Scale
from muxjax.bench.kernels.targets import UPSTREAM
from muxjax.bench.kernels.timing import compile_timed, operations_per_call, time_operations
from muxjax.pallas_kernels.paged_decode.shapes import DecodeShape

_SETTINGS: tuple[dict[str, int], ...] = (
    {"page_tokens": 32, "k_splits": 16, "pages_per_compute_block": 4},
    {"page_tokens": 64, "k_splits": 8, "pages_per_compute_block": 2},
    {"page_tokens": 16, "k_splits": 4, "pages_per_compute_block": 8},
)
_SMOKE_SETTINGS = ({"page_tokens": 16, "k_splits": 1, "pages_per_compute_block": 2},)


def cases(scale: Scale) -> Iterator[Case]:
    """Every batch under every setting, the first batches first."""
    for batch, context in scale.batches:
        shape = DecodeShape(batch, context, *scale.decode_heads)
        if not fits(shape, scale):
            continue
        for setting in _SMOKE_SETTINGS if scale.is_interpreted else _SETTINGS:
            labels = {
                "operation": "paged_decode",
                "implementation": UPSTREAM,
                "shape": f"batch {batch}, context {context}",
            }
            words = ", ".join(f"{name} {value}" for name, value in setting.items())
            yield Case({**labels, **sizes(shape), "setting": words}, partial(_time, shape, scale, **setting))


def _paged_attention() -> Callable[..., Array]:
    """The function, whose module warns that it is deprecated, without that warning."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        from jax.experimental.pallas.ops.gpu.paged_attention import paged_attention
    return paged_attention


def _time(shape: DecodeShape, scale: Scale, *, page_tokens: int, **setting: int) -> dict[str, Any]:
    """Pages of a sequence scattered over an array of its own layout, [kv_heads, pages, page_tokens, dim]."""
    rng = np.random.default_rng(0)
    nbytes = moved_bytes(shape)
    layers = operations_per_call(nbytes, scale)
    splits = setting["k_splits"] * setting["pages_per_compute_block"]
    max_pages = -(-shape.kv_len // (page_tokens * splits)) * splits  # which it asks for
    used_pages = -(-shape.kv_len // page_tokens)
    pages = shape.sequences * used_pages * layers
    table = np.zeros((layers, shape.sequences, max_pages), np.int32)
    table[:, :, :used_pages] = rng.permutation(pages).reshape(layers, shape.sequences, used_pages)
    keys, values = (
        jnp.broadcast_to(
            random_heads(rng, 1, 1, page_tokens, shape.head_dim), (shape.kv_heads, pages, page_tokens, shape.head_dim)
        )
        + 0
        for _ in range(2)
    )
    queries = random_heads(rng, shape.sequences, shape.q_heads, shape.head_dim)
    lengths = jnp.full(shape.sequences, shape.kv_len, jnp.int32)
    attend = partial(_paged_attention(), interpret=scale.is_interpreted, **setting)

    def step(queries: Array, keys: Array, values: Array, tables: list[Array], lengths: Array) -> Array:
        for layer in tables:
            queries = attend(queries * shape.head_dim**-0.5, keys, values, layer, lengths).astype(DTYPE)
        return queries

    program = compile_timed(step)
    tables = [jnp.asarray(layer) for layer in table]
    times = time_operations(lambda queries: program(queries, keys, values, tables, lengths), queries, layers, scale)
    return {**times, "gb_per_s": nbytes / times["us"] / 1e3, "is_cold": layers * nbytes >= scale.cold_bytes}
