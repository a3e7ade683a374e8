"""ragged_prefill: right against its definition, and how fast beside cuDNN's attention of the same prompt."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from muxjax.bench.isolated import Case
from muxjax.bench.kernels.agreement import Agreement
from muxjax.bench.kernels.decode import OPTIONS
from muxjax.bench.kernels.paged import random_heads, scatter_past
from muxjax.bench.kernels.scale import Scale
from muxjax.bench.kernels.targets import CUDNN
from muxjax.bench.kernels.timing import compile_timed, time_operations
from muxjax.pallas_kernels.implementation import Implementation
from muxjax.pallas_kernels.ragged_prefill import ragged_prefill
from muxjax.pallas_kernels.ragged_prefill.shapes import PrefillShape
from muxjax.pallas_kernels.reference import causal_attention, past_tokens

_CHECKED_ROWS = 64
_LAYERS = 4
Prefill = Callable[..., Array]


def checks(scale: Scale, implementation: Implementation) -> Iterator[Case]:
    """Right at every named shape?"""
    prefill = partial(ragged_prefill, implementation=implementation)
    for name, shape in scale.prefill_shapes.items():
        labels = {"operation": "ragged_prefill", "implementation": implementation, "check": name}
        yield Case(labels, partial(_check, prefill, shape))


def timings(scale: Scale, implementation: Implementation) -> Iterator[Case]:
    """Fast? The prompts that cuDNN runs first."""
    prefill = partial(ragged_prefill, implementation=implementation)
    for name, shape in {**prompts(scale), **scale.prefill_shapes}.items():
        labels = {"operation": "ragged_prefill", "implementation": implementation, "shape": name}
        yield Case(labels, partial(time_prefill, prefill, shape, scale))


def cudnn_cases(scale: Scale) -> Iterator[Case]:
    """The same prompts through cuDNN, which knows no pages."""
    for name, shape in prompts(scale).items():
        labels = {"operation": "ragged_prefill", "implementation": CUDNN, "shape": name}
        yield Case(labels, partial(_time_cudnn, shape, scale))


def prompts(scale: Scale) -> dict[str, PrefillShape]:
    """Single prompts that begin here, as cuDNN can have them."""
    return {f"prompt of {rows}": PrefillShape((0,), (rows,), *scale.decode_heads) for rows in scale.prompts}


def _check(prefill: Prefill, shape: PrefillShape) -> dict[str, Any]:
    """The largest error of the first and last rows of each sequence, in float64, with and without options."""
    rng = np.random.default_rng(0)
    arguments, (page_blocks, page_table) = _inputs(rng, shape, padding=1)
    queries, keys, values, pool = arguments[:4]
    agreement, group = Agreement(), shape.q_heads // shape.kv_heads
    for extra in OPTIONS:
        asked = {"sliding_window": None, "soft_cap": None, "sm_scale": shape.head_dim**-0.5, **extra}
        output = np.asarray(jax.jit(partial(prefill, **asked))(*arguments), np.float64)
        agreement.expect_finite(output)
        agreement.add(output[-1], np.zeros_like(output[-1]))
        start = 0
        for seq, (past, rows) in enumerate(zip(shape.past, shape.rows, strict=True)):
            q_head = int(rng.integers(shape.q_heads))
            head, own = q_head // group, slice(start, start + rows)
            blocks = page_blocks[page_table[seq], head]
            old = past_tokens(np.asarray(pool[jnp.asarray(blocks)]), np.arange(len(blocks)), past, shape.head_dim)
            new = np.stack([np.asarray(x[own, head], np.float64) for x in (keys, values)])
            tokens = np.concatenate([old, new], axis=1)
            for end in {min(_CHECKED_ROWS, rows), rows}:
                first = max(end - _CHECKED_ROWS, 0)
                asking = np.asarray(queries[start + first : start + end, q_head])
                expected = causal_attention(asking, tokens[0, : past + end], tokens[1, : past + end], **asked)
                agreement.add(output[start + first : start + end, q_head], expected)
            start += rows
    return agreement.figures()


def time_prefill(prefill: Prefill, shape: PrefillShape, scale: Scale) -> dict[str, Any]:
    """A chunk in some layers, queries from the one before."""
    (queries, *others), _ = _inputs(np.random.default_rng(0), shape)

    def step(queries: Array, others: list[Array]) -> Array:
        for _ in range(_LAYERS):
            queries = prefill(queries, *others, sm_scale=shape.head_dim**-0.5)
        return queries

    program = compile_timed(step)
    times = time_operations(lambda queries: program(queries, others), queries, _LAYERS, scale)
    return {**times, "tflop_per_s": _operations(shape) / times["us"] / 1e6}


def _time_cudnn(shape: PrefillShape, scale: Scale) -> dict[str, Any]:
    rng, [rows] = np.random.default_rng(0), shape.rows
    queries = random_heads(rng, 1, rows, shape.q_heads, shape.head_dim)
    keys, values = random_heads(rng, 2, 1, rows, shape.kv_heads, shape.head_dim)

    def step(queries: Array, keys: Array, values: Array) -> Array:
        for _ in range(_LAYERS):
            queries = jax.nn.dot_product_attention(queries, keys, values, is_causal=True, implementation="cudnn")
        return queries

    program = compile_timed(step)
    times = time_operations(lambda queries: program(queries, keys, values), queries, _LAYERS, scale)
    return {**times, "tflop_per_s": _operations(shape) / times["us"] / 1e6}


def _inputs(
    rng: np.random.Generator, shape: PrefillShape, padding: int = 0
) -> tuple[list[Array], tuple[np.ndarray, np.ndarray]]:
    """The arguments of ragged_prefill, and the tables once more, for the host."""
    pool, page_blocks, page_table = scatter_past(rng, shape.past, shape.kv_heads, shape.head_dim)
    rows = sum(shape.rows) + padding
    queries = random_heads(rng, rows, shape.q_heads, shape.head_dim)
    keys, values = random_heads(rng, 2, rows, shape.kv_heads, shape.head_dim)
    starts = np.concatenate([[0], np.cumsum(shape.rows)])
    tables = (page_blocks, page_table, starts, np.add(shape.past, shape.rows))
    return [queries, keys, values, pool, *(jnp.asarray(table, jnp.int32) for table in tables)], (
        page_blocks,
        page_table,
    )


def _operations(shape: PrefillShape) -> float:
    """Of the two products over what each row sees; a multiplication and an addition are two."""
    seen = sum(rows * past + rows * (rows + 1) / 2 for past, rows in zip(shape.past, shape.rows, strict=True))
    return 4 * seen * shape.q_heads * shape.head_dim
