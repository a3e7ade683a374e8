"""What it costs on one device that programs run through `jax.shard_map`, as they must over several: JSON.

Usage: python -m benchmarks.shard_map [--rounds N] [--steps N]
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from muxjax.allocator import keep_freed_memory

DTYPES = ("float32", "bfloat16")
BATCH_SIZES = (1, 8)
LENGTH = 128


def main() -> None:
    """Measure decode steps of a random Llama of 134M parameters, plain and through shard_map in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often each is measured (default: 9)")
    parser.add_argument("--steps", type=int, default=24, help="decode steps of a round (default: 24)")
    options = parser.parse_args()
    keep_freed_memory()
    from muxjax.bench.machine import describe_machine, load_average  # not before the allocator is told

    before = load_average()
    cases = [
        measure(dtype, batch_size, options.rounds, options.steps) for dtype in DTYPES for batch_size in BATCH_SIZES
    ]
    figures = {"machine": describe_machine(), "load_average": [before, load_average()], "cases": cases}
    json.dump(figures, sys.stdout, indent=1)
    print()


def measure(dtype: str, batch_size: int, rounds: int, steps: int) -> dict[str, Any]:
    """Medians of the milliseconds of a step, and of the ratios of neighbouring rounds."""
    import jax
    import jax.numpy as jnp

    from muxjax.bench.bare import BareDecode
    from muxjax.bench.settings import LLAMA_125M
    from muxjax.bench.unit import unit_of
    from muxjax.models.load import load_config, load_model
    from muxjax.models.spread import make_mesh

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(dict(LLAMA_125M)))
        source = f"random:{path}"
        pool = unit_of(
            {"llm": source}, load_config(source), dtype=dtype, sequences=batch_size, tokens=LENGTH + steps
        ).pool
        model = load_model(source, dtype=jnp.dtype(dtype))
    meshes = {"plain": None, "shard_map": make_mesh(jax.devices()[:1])}
    ways = {
        way: BareDecode(model, pool, batch_size=batch_size, first_length=LENGTH, steps=steps, mesh=mesh)
        for way, mesh in meshes.items()
    }
    milliseconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, decode in ways.items():
            milliseconds[way].append(1e3 * decode.seconds() / steps)
    ratios = [shard_map / plain for plain, shard_map in zip(*milliseconds.values(), strict=True)]
    return {
        "dtype": dtype,
        "batch_size": batch_size,
        **{f"{way}_ms": round(statistics.median(times), 3) for way, times in milliseconds.items()},
        "shard_map / plain": round(statistics.median(ratios), 4),
    }


if __name__ == "__main__":
    main()
