"""grouped_matmul in Pallas's Triton dialect, for Ampere and later: each program multiplies rows of one group."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Int, Int8

from muxjax.pallas_kernels.grouped_matmul.row_tiles import RowTiles, max_tiles, row_tiles
from muxjax.pallas_kernels.grouped_matmul.xla import grouped_matmul_xla
from muxjax.pallas_kernels.implementation import interpreted
from muxjax.pallas_kernels.multiprocessors import multiprocessors

DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
MIN_ROWS, MAX_ROWS = 16, 128  # a product on tensor cores has 16 rows
LOW_ROWS = 32  # up to which reading weights is the limit
MIN_COLUMNS = 32
BAND_COLUMNS = 16  # tiles: programs that run at the same time share rows in one direction and weights in the other


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a launch is laid out; sizes are powers of two.

    Attributes:
        rows: of a program.
        columns: of a program.
        inner: that are multiplied at a time.
        warps: of a program.
        stages: tiles of weights that are in flight.
    """

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


def choose_tiles(rows: int, groups: int, columns: int, dtype: jnp.dtype) -> Tiles:
    """Tiles as high as groups are on average, so that few weights are read twice, and few rows are padding.

    Low ones are narrow where that keeps all multiprocessors busy, two programs each: reading is their limit.
    """
    high = min(max(pl.next_power_of_2(pl.cdiv(rows, groups)), MIN_ROWS), MAX_ROWS)
    if dtype == jnp.float32:  # on the ordinary cores, out of registers
        return Tiles(rows=min(high, 32), columns=64, inner=16, warps=4, stages=2)
    if high > LOW_ROWS:
        return Tiles(rows=high, columns=128, inner=64, warps=8 if high > 64 else 4, stages=3)
    wide, wanted = 128, 2 * multiprocessors()
    while wide > MIN_COLUMNS and max_tiles(rows, groups, high) * pl.cdiv(columns, wide) < wanted:
        wide //= 2
    return Tiles(rows=high, columns=wide, inner=64, warps=4, stages=4)


@jax.custom_vjp
def grouped_matmul_triton(
    rows: Float[Array, "rows in"],
    weights: Float[Array, "groups in out"] | Int8[Array, "groups in out"],
    group_sizes: Int[Array, " groups"],
    scales: Float[Array, "groups out"] | None = None,
) -> Float[Array, "rows out"]:
    """See `grouped_matmul`; its gradient is that of XLA's implementation.

    Raises:
        NotImplementedError: no kernel for this dtype, or for int8 weights of this size.
    """
    return launch(rows, weights, group_sizes, scales)


def launch(
    rows: Float[Array, "rows in"],
    weights: Float[Array, "groups in out"] | Int8[Array, "groups in out"],
    group_sizes: Int[Array, " groups"],
    scales: Float[Array, "groups out"] | None = None,
    tiles: Tiles | None = None,
) -> Float[Array, "rows out"]:
    """The product, by these tiles or the best ones known."""
    if rows.dtype not in DTYPES:
        raise NotImplementedError(f"the Triton kernel takes float32, bfloat16 and float16, not {rows.dtype}")
    if weights.dtype == jnp.int8 and 2**31 <= weights.size <= 2**32:  # Pallas counts elements of these in 32 bits
        raise NotImplementedError(f"the Triton kernel takes less than 2 GiB of int8 weights, not {weights.size} bytes")
    groups, _, columns = weights.shape
    tiles = tiles or choose_tiles(rows.shape[0], groups, columns, rows.dtype)
    plan = row_tiles(group_sizes, rows.shape[0], tiles.rows)
    wide = pl.cdiv(columns, tiles.columns)
    band = min(wide, BAND_COLUMNS)
    product: Array = pl.pallas_call(
        functools.partial(_multiply, tiles=tiles),
        grid=(band, len(plan.group), pl.cdiv(wide, band)),
        out_shape=jax.ShapeDtypeStruct((rows.shape[0], columns), rows.dtype),
        compiler_params=plgpu.CompilerParams(num_warps=tiles.warps, num_stages=tiles.stages),
        interpret=interpreted(),
        name="grouped_matmul",
    )(plan, rows, weights, *([] if scales is None else [scales]))
    return product


def _multiply(plan: RowTiles, rows_ref: jax.Ref, weights_ref: jax.Ref, *refs: jax.Ref, tiles: Tiles) -> None:
    """Writes one tile of the product."""
    *scales_ref, product_ref = refs
    tile = pl.program_id(1)
    group, begin, end = plan.group[tile], plan.begin[tile], plan.end[tile]
    _, inner, columns = weights_ref.shape
    first_column = (pl.program_id(2) * pl.num_programs(0) + pl.program_id(0)) * tiles.columns

    @pl.when((begin < end) & (first_column < columns))
    def _write_product() -> None:
        row, column = (begin + jnp.arange(tiles.rows))[:, None], (first_column + jnp.arange(tiles.columns))[None]
        is_row, is_column = row < end, column < columns

        def add_tile(index: Int[Array, ""], sums: Array) -> Array:
            channel = index * tiles.inner + jnp.arange(tiles.inner)
            is_channel = channel < inner
            left = plgpu.load(rows_ref.at[row, channel[None]], mask=is_row & is_channel[None], other=0)
            right_mask = is_channel[:, None] & is_column
            right = plgpu.load(weights_ref.at[group, channel[:, None], column], mask=right_mask, other=0)
            return sums + _product(left, right.astype(left.dtype))

        sums = jnp.zeros((tiles.rows, tiles.columns), jnp.float32)
        sums = lax.fori_loop(0, pl.cdiv(inner, tiles.inner), add_tile, sums)
        for scales in scales_ref:
            sums *= plgpu.load(scales.at[group, column], mask=is_column, other=0)
        plgpu.store(product_ref.at[row, column], sums.astype(product_ref.dtype), mask=is_row & is_column)


def _product(left: Float[Array, "rows inner"], right: Float[Array, "inner columns"]) -> Float[Array, "rows columns"]:
    """In float32, and not in TF32, where the inputs are; others have products that float32 holds exactly."""
    return jnp.dot(left, right, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


Saved = tuple[Array, Array, Array, Array | None]


def _forward(rows: Array, weights: Array, group_sizes: Array, scales: Array | None = None) -> tuple[Array, Saved]:
    return launch(rows, weights, group_sizes, scales), (rows, weights, group_sizes, scales)


def _backward(saved: Saved, gradient: Array) -> tuple[Array | None, ...]:
    return jax.vjp(grouped_matmul_xla, *saved)[1](gradient)


grouped_matmul_triton.defvjp(_forward, _backward)
