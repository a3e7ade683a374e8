"""grouped_matmul: right against its definition, and how near it comes to the memory's bandwidth or dense products."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from muxjax.bench.isolated import Case
from muxjax.bench.kernels.agreement import Agreement
from muxjax.bench.kernels.paged import DTYPE, random_heads
from muxjax.bench.kernels.scale import Scale
from muxjax.bench.kernels.timing import compile_timed, operations_per_call, time_operations
from muxjax.pallas_kernels.grouped_matmul import grouped_matmul
from muxjax.pallas_kernels.grouped_matmul.reference import grouped_matmul_reference
from muxjax.pallas_kernels.grouped_matmul.shapes import GroupedShape
from muxjax.pallas_kernels.implementation import Implementation

_CHECKED_COLUMNS, _CHECKED_GROUPS = 64, 3
_FEW_TOKENS = 256  # up to which reading weights is the limit, and not multiplying
Multiply = Callable[..., Array]


def checks(scale: Scale, implementation: Implementation) -> Iterator[Case]:
    """Right at every named shape?"""
    multiply = partial(grouped_matmul, implementation=implementation)
    for name, shape in scale.grouped_shapes.items():
        labels = {"operation": "grouped_matmul", "implementation": implementation, "check": name}
        yield Case(labels, partial(_check, multiply, shape))


def timings(scale: Scale, implementation: Implementation) -> Iterator[Case]:
    """Fast?"""
    multiply = partial(grouped_matmul, implementation=implementation)
    for name, shape in scale.grouped_shapes.items():
        labels = {"operation": "grouped_matmul", "implementation": implementation, "shape": name}
        yield Case({**labels, "tokens": shape.tokens}, partial(time_grouped, multiply, shape, scale))


def _check(multiply: Multiply, shape: GroupedShape) -> dict[str, Any]:
    """The largest error of all rows of some groups, in some columns, in float64."""
    rng = np.random.default_rng(0)
    rows, weights, scales = _inputs(rng, shape)
    sizes = _route(rng, shape)
    product = np.asarray(jax.jit(multiply)(rows, weights, jnp.asarray(sizes), *scales), np.float64)
    agreement = Agreement()
    agreement.expect_finite(product)
    columns = np.sort(rng.choice(shape.columns, min(_CHECKED_COLUMNS, shape.columns), replace=False))
    ends = np.cumsum(sizes)
    for group in {int(np.argmax(sizes)), *rng.choice(np.flatnonzero(sizes), _CHECKED_GROUPS).tolist()}:
        own = slice(ends[group] - sizes[group], ends[group])
        expected = grouped_matmul_reference(
            np.asarray(rows[own]),
            np.asarray(weights[group][:, columns])[None],
            sizes[[group]],
            *(np.asarray(scale[group][columns])[None] for scale in scales),
        )
        agreement.add(product[own][:, columns], expected)
    return agreement.figures()


def time_grouped(multiply: Multiply, shape: GroupedShape, scale: Scale) -> dict[str, Any]:
    """Products one after the other, of the same rows with experts that are chosen anew."""
    rng = np.random.default_rng(0)
    rows, weights, scales = _inputs(rng, shape)
    one = shape.inner * shape.columns * weights.dtype.itemsize
    most = one * min(shape.groups, shape.rows)
    routes = [_route(rng, shape) for _ in range(operations_per_call(most, scale))]
    sizes = [jnp.asarray(route) for route in routes]

    def step(rows: Array, weights: Array, sizes: list[Array], scales: list[Array]) -> list[Array]:
        return [multiply(rows, weights, route, *scales) for route in sizes]

    program = compile_timed(step)
    start: list[Array] = []
    times = time_operations(lambda _: program(rows, weights, sizes, scales), start, len(routes), scale)
    if shape.tokens > _FEW_TOKENS:
        return {**times, "tflop_per_s": 2 * shape.rows * shape.inner * shape.columns / times["us"] / 1e6}
    read = one * float(np.mean([np.count_nonzero(route) for route in routes]))
    moved = read + shape.rows * (shape.inner + shape.columns) * rows.dtype.itemsize
    return {**times, "gb_per_s": moved / times["us"] / 1e3, "is_cold": len(routes) * read >= scale.cold_bytes}


def _inputs(rng: np.random.Generator, shape: GroupedShape) -> tuple[Array, Array, list[Array]]:
    """Rows and weights whose products are of order one; scales, if weights are int8."""
    rows = random_heads(rng, shape.rows, shape.inner)
    size = (shape.groups, shape.inner, shape.columns)
    if not shape.is_int8:
        return rows, jax.jit(lambda: random_heads(rng, *size) * DTYPE(shape.inner**-0.5))(), []
    bits = jax.random.bits(jax.random.key(0), size, jnp.uint8)
    scales = jnp.full((shape.groups, shape.columns), shape.inner**-0.5 / 64, jnp.float32)
    return rows, jax.lax.bitcast_convert_type(bits, jnp.int8), [scales]


def _route(rng: np.random.Generator, shape: GroupedShape) -> Int[np.ndarray, " groups"]:
    """How many rows each group has when every token has chosen its experts by chance."""
    chosen = rng.random((shape.tokens, shape.groups)).argsort(axis=1)[:, : shape.per_token]
    return np.bincount(chosen.ravel(), minlength=shape.groups).astype(np.int32)
