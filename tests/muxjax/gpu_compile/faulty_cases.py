"""Programs that the gate must not let through, one of each kind; run where CUDA's compiler is."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu, triton
from jax.sharding import NamedSharding, PartitionSpec

from muxjax.gpu_compile.__main__ import check
from muxjax.gpu_compile.case import Program
from muxjax.gpu_compile.gate import toolchain
from muxjax.gpu_compile.mesh import gpu_mesh
from muxjax.models.collectives import AXIS
from muxjax.serving.executor.spmd import spread

POOL = jax.ShapeDtypeStruct((1000, 2, 32, 128), jnp.bfloat16)
ROWS = jax.ShapeDtypeStruct((8, 2, 32, 128), jnp.bfloat16)


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def multiply(size: int, warps: int) -> Program:
    """A product of matrices, all of each in one tile."""

    def product(x_ref: Any, y_ref: Any, out_ref: Any) -> None:
        out_ref[...] = jnp.dot(x_ref[...], y_ref[...])

    call = pl.pallas_call(
        product, array(size, size), name="product", compiler_params=triton.CompilerParams(num_warps=warps)
    )
    return Program(call, (array(size, size),) * 2, temp_bound=0, kernels=("product",))


def sound() -> Program:
    return multiply(32, warps=4)


def spilling() -> Program:
    return multiply(64, warps=1)


def too_large_tile() -> Program:
    return multiply(256, warps=8)


def too_large_mosaic_tile() -> Program:
    def staged(x_ref: Any, out_ref: Any, tile: Any) -> None:
        mosaic_gpu.copy_smem_to_gmem(tile, out_ref)

    kernel = mosaic_gpu.kernel(
        staged, out_type=array(1024, 128), scratch_types=[mosaic_gpu.SMEM((1024, 128), jnp.float32)]
    )
    return Program(kernel, (array(1024, 128),), temp_bound=0, kernels=("staged",))


def in_place() -> Program:
    return Program(lambda pool, rows: pool.at[:8].set(rows), (POOL, ROWS), temp_bound=1024, pool=0, writes_pool=True)


def copying() -> Program:
    """Reads the pool as it was when it is written already."""

    def step(pool: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        written, rows = jax.lax.optimization_barrier((pool.at[:8].set(rows), rows))
        return written, pool[:8] + rows + written[:8]

    return Program(step, (POOL, ROWS), temp_bound=1 << 40, pool=0, writes_pool=True)


def not_donated() -> Program:
    """Promises to write the pool in place, and returns what is none of it."""
    return Program(lambda pool, rows: rows * 2, (POOL, ROWS), temp_bound=1024, pool=0, writes_pool=True)


def hogging() -> Program:
    """Keeps all pairs of its numbers at once."""

    def pairs(x: jax.Array) -> jax.Array:
        return jnp.sort(x[:, None] * x, axis=1).sum(axis=0)

    return Program(pairs, (array(2048),), temp_bound=1 << 20)


def many_launches() -> Program:
    """A loop whose length the device finds out: the host launches each turn."""

    def loop(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x.sum() < 100, lambda x: jnp.sort(x * 2), x)

    return Program(loop, (array(2048),), temp_bound=1 << 20, is_one_command_buffer=True)


def sum_over_gpus(times: int) -> Program:
    """On two GPUs, which are to sum up once."""
    mesh = gpu_mesh("sm_90a", 2)

    def summed(own: jax.Array) -> jax.Array:
        for _ in range(times):
            own = jnp.sin(jax.lax.psum(own, AXIS))
        return own

    rows = array(64, 256).update(sharding=NamedSharding(mesh, PartitionSpec()))
    function = spread(summed, mesh, PartitionSpec(), PartitionSpec())
    return Program(function, (rows,), 1 << 20, summed_elements=64 * 256, is_one_command_buffer=True)


def summing() -> Program:
    return sum_over_gpus(times=1)


def summing_twice() -> Program:
    return sum_over_gpus(times=2)


def launching_after_a_sum() -> Program:
    """Many kernels that no command buffer takes, for the host decides how often they run."""
    once, loops = summing(), many_launches()

    def step(rows: jax.Array) -> jax.Array:
        return functools.reduce(lambda x, _: loops.function(x), range(8), once.function(rows)[0])

    return replace(once, function=step)


def unreached() -> Program:
    """Claims a kernel that no compiler has seen."""
    return replace(sound(), kernels=("product", "paged_decode"))


def unsupported() -> Program:
    raise NotImplementedError("heads of 7 are too odd")


def broken() -> Program:
    return Program(lambda x: x @ x, (array(3, 4),), temp_bound=0)


MAKERS: dict[str, Callable[[], Program]] = {
    maker.__name__: maker
    for maker in (
        sound, spilling, too_large_tile, too_large_mosaic_tile, in_place, copying, not_donated, hogging, many_launches,
        summing, summing_twice, launching_after_a_sum, unreached, unsupported, broken,
    )
}  # fmt: skip


@dataclass(frozen=True)
class FaultyCase:
    name: str
    target: str = "sm_90a"

    def program(self) -> Program:
        return MAKERS[self.name]()


if __name__ == "__main__":
    cases = [*map(FaultyCase, MAKERS), FaultyCase("too_large_tile", "sm_80")]
    with toolchain():
        sys.exit(check(cases, as_json=True))
