"""Times the pool's operations on the CPU at real shapes, each implementation beside the other; prints JSON.

    python benchmarks/attention_cpu.py [--repeats 20] [--dtypes float32 bfloat16] [--only decode]

Every layer reads its own blocks, scattered over the pool, so that what is measured is memory and not caches.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.implementation import Implementation, default_implementation
from muxjax.pallas_kernels.paged_decode import paged_decode
from muxjax.pallas_kernels.paged_decode.shapes import SHAPES as DECODE_SHAPES
from muxjax.pallas_kernels.paged_decode.shapes import DecodeShape
from muxjax.pallas_kernels.pool_write import pool_write
from muxjax.pallas_kernels.pool_write.shapes import SHAPES as WRITE_SHAPES
from muxjax.pallas_kernels.pool_write.shapes import WriteShape
from muxjax.pallas_kernels.ragged_prefill import ragged_prefill
from muxjax.pallas_kernels.ragged_prefill.shapes import SHAPES as PREFILL_SHAPES
from muxjax.pallas_kernels.ragged_prefill.shapes import PrefillShape

BLOCK_ELEMENTS = 4096
POOL_BYTES = 512 << 20


@dataclass(frozen=True)
class Measurement:
    """One operation at one shape. Milliseconds are those of one layer; a write is of all layers at once."""

    operation: str
    shape: str
    dtype: str
    implementation: str
    min_ms: float
    median_ms: float
    cpu_ms: float  # the least of all cores together: what to look at on a machine with other work to do
    gb_per_s: float  # keys and values read from the pool, or written to it, in the shortest time
    gflop_per_s: float


@dataclass(frozen=True)
class Times:
    """Milliseconds of some runs."""

    shortest: float
    median: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--implementations", nargs="+", default=["cpu", "xla"])
    parser.add_argument("--only", default="", help="operations and shapes whose name contains this")
    options = parser.parse_args()
    cases: list[tuple[str, str, Measure]] = [
        *(("decode", name, partial(measure_attention, as_prefill(shape))) for name, shape in DECODE_SHAPES.items()),
        *(("prefill", name, partial(measure_attention, shape)) for name, shape in PREFILL_SHAPES.items()),
        *(("write", name, partial(measure_write, shape)) for name, shape in WRITE_SHAPES.items()),
    ]
    machine = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "copy_gb_per_s": copy_bandwidth(),
        "default": default_implementation().reason,
    }
    results = [
        asdict(measure(operation, name, dtype, implementation, options.repeats))
        for (operation, name, measure), dtype in product(cases, options.dtypes)
        for implementation in options.implementations
        if options.only in f"{operation} {name}"
    ]
    print(json.dumps({"machine": machine, "results": results}, indent=2))


Measure = Callable[[str, str, str, Implementation, int], Measurement]


def as_prefill(shape: DecodeShape) -> PrefillShape:
    past, rows = (shape.kv_len - 1,) * shape.sequences, (1,) * shape.sequences
    return PrefillShape(past, rows, shape.q_heads, shape.kv_heads, shape.head_dim)


def measure_attention(
    shape: PrefillShape, operation: str, name: str, dtype: str, implementation: Implementation, repeats: int
) -> Measurement:
    """Attention in up to 12 layers, one after the other, as many as the pool has room for."""
    rng = np.random.default_rng(0)
    lane, kv_heads = lane_of(shape.head_dim), shape.kv_heads
    page_tokens = BLOCK_ELEMENTS // lane
    max_pages = max(1, -(-max(shape.past) // page_tokens))
    pages = len(shape.past) * max_pages
    block_bytes = 2 * BLOCK_ELEMENTS * jnp.dtype(dtype).itemsize
    layers = max(1, min(12, POOL_BYTES // (pages * kv_heads * block_bytes)))
    blocks = layers * pages * kv_heads
    pool = jax.random.normal(jax.random.key(0), (1 + blocks, 2, page_tokens, lane), dtype)
    page_blocks = jnp.asarray(1 + rng.permutation(blocks).reshape(layers, pages, kv_heads), jnp.int32)
    page_table = jnp.asarray(rng.permutation(pages).reshape(-1, max_pages), jnp.int32)
    kv_lens = jnp.asarray(np.add(shape.past, shape.rows), jnp.int32)
    starts = jnp.asarray(np.concatenate([[0], np.cumsum(shape.rows)]), jnp.int32)
    queries = jnp.asarray(rng.standard_normal((sum(shape.rows), shape.q_heads, shape.head_dim)), dtype)
    keys, values = jnp.asarray(rng.standard_normal((2, sum(shape.rows), kv_heads, shape.head_dim)), dtype)

    @jax.jit
    def run(queries: jax.Array, pool: jax.Array, page_blocks: jax.Array) -> jax.Array:
        def layer(hidden: jax.Array, blocks: jax.Array) -> tuple[jax.Array, None]:
            inputs = (hidden, keys, values, pool, blocks, page_table)
            options = {"sm_scale": shape.head_dim**-0.5, "implementation": implementation}
            if operation == "decode":
                return paged_decode(*inputs, kv_lens, **options), None
            return ragged_prefill(*inputs, starts, kv_lens, **options), None

        return jax.lax.scan(layer, queries, page_blocks)[0]

    times = milliseconds(lambda: run(queries, pool, page_blocks), repeats, layers)
    read = 2 * sum(shape.past) * kv_heads * lane * jnp.dtype(dtype).itemsize
    seen = sum(rows * past + rows * (rows + 1) / 2 for past, rows in zip(shape.past, shape.rows, strict=True))
    flops = 4 * seen * shape.q_heads * shape.head_dim
    return measurement(operation, name, dtype, implementation, times, read, flops)


def measure_write(
    shape: WriteShape, operation: str, name: str, dtype: str, implementation: Implementation, repeats: int
) -> Measurement:
    """Writes to a donated pool; every sequence has pages of its own."""
    rng = np.random.default_rng(0)
    lane = lane_of(shape.head_dim)
    page_tokens = BLOCK_ELEMENTS // lane
    pages = -(-shape.rows // page_tokens)  # of a sequence
    blocks = shape.layers * shape.sequences * pages * shape.kv_heads
    pools = [jnp.zeros((1 + blocks, 2, page_tokens, lane), dtype)]
    page_blocks = 1 + rng.permutation(blocks).reshape(shape.layers, shape.sequences * pages, shape.kv_heads)
    tokens = (shape.layers, shape.sequences * shape.rows, shape.kv_heads, shape.head_dim)
    keys, values = jnp.asarray(rng.standard_normal((2, *tokens)), dtype)
    slots = np.add.outer(np.arange(shape.sequences) * pages * page_tokens, np.arange(shape.rows)).ravel()
    tables = jnp.asarray(page_blocks, jnp.int32), jnp.asarray(slots, jnp.int32)
    program = jax.jit(partial(pool_write, implementation=implementation), donate_argnums=0)

    def run() -> jax.Array:
        pools.append(program(pools.pop(), keys, values, *tables))
        return pools[0]

    times = milliseconds(run, repeats)
    written = 2 * keys.size * lane // shape.head_dim * jnp.dtype(dtype).itemsize
    return measurement(operation, name, dtype, implementation, times, written, 0)


def measurement(
    operation: str, name: str, dtype: str, implementation: str, times: Times, moved: float, flops: float
) -> Measurement:
    rates = moved / times.shortest / 1e6, flops / times.shortest / 1e6
    figures = (times.shortest, times.median, times.cpu, *rates)
    return Measurement(operation, name, dtype, implementation, *(round(figure, 4) for figure in figures))


def milliseconds(run: Callable[[], jax.Array], repeats: int, layers: int = 1) -> Times:
    """Times of one layer, after one run that compiles."""
    jax.block_until_ready(run())
    times, cpu_times = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        jax.block_until_ready(run())
        times.append((time.perf_counter() - start) * 1e3 / layers)
        cpu_times.append((time.process_time() - cpu_start) * 1e3 / layers)
    return Times(min(times), statistics.median(times), min(cpu_times))


def copy_bandwidth() -> float:
    """Bytes read and written a second, in GB, when every core copies its own part of a large array."""
    cores = os.cpu_count() or 1
    source = np.ones((cores, 256 << 20), np.uint8)
    target = np.ones_like(source)
    with ThreadPoolExecutor(cores) as threads:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            list(threads.map(np.copyto, target, source))
            times.append(time.perf_counter() - start)
    return round(2 * source.nbytes / min(times) / 1e9, 1)


if __name__ == "__main__":
    main()
