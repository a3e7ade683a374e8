"""How fast a checkpoint becomes parameters, and in how much memory: each case in a process of its own.

The files were written just before, so they are read from the system's cache and not from a disk.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from muxjax.bench.result import BenchError, Budget, Part, median
from muxjax.bench.settings import Settings

_LEAST_GB_PER_SECOND = 1.0
_MOST_MEMORY = 1.5
_CASES = (("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32"))


def measure(settings: Settings, tell: Callable[[str], None]) -> Part:
    """Read the model as it is stored, and widened, layer by layer as serving does."""
    from muxjax.bench.checkpoint import write_checkpoint

    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for stored in dict.fromkeys(stored for stored, _ in _CASES):
            tell(f"checkpoint: writing {settings.checkpoint_layers} layers in {stored}")
            directory = Path(folder) / stored
            directory.mkdir()
            write_checkpoint(
                directory, {**settings.model, "num_hidden_layers": settings.checkpoint_layers}, dtype=stored
            )
        for stored, dtype in _CASES:
            tell(f"checkpoint: {stored} as {dtype}")
            rounds = [_in_own_process(Path(folder) / stored, dtype) for _ in range(settings.rounds)]
            cases.append(
                {
                    "stored": stored,
                    "dtype": dtype,
                    "file_gb": rounds[0]["file_bytes"] / 1e9,
                    "weights_gb": rounds[0]["weight_bytes"] / 1e9,
                    "seconds": median([one["seconds"] for one in rounds]),
                    "gb_per_second": median([one["file_bytes"] / one["seconds"] / 1e9 for one in rounds]),
                    "peak_memory": max(one["peak_bytes"] / one["weight_bytes"] for one in rounds),
                }
            )
    return Part({"cases": cases}, tuple(budget for case in cases for budget in _budgets(case)))


def _budgets(case: dict[str, Any]) -> Iterator[Budget]:
    name = f"{case['stored']} read as {case['dtype']}"
    if case["stored"] == case["dtype"]:  # when values are widened, half of what is written was never in the file
        yield Budget(f"GB/s, {name}", _LEAST_GB_PER_SECOND, case["gb_per_second"], at_least=True)
    yield Budget(f"peak memory / weights, {name}", _MOST_MEMORY, case["peak_memory"], at_least=False)


def _in_own_process(directory: Path, dtype: str) -> dict[str, Any]:
    """What `main` prints there. Raises BenchError."""
    command = [sys.executable, "-m", "muxjax.bench.reading", str(directory), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the checkpoint could not be read: {done.stderr.strip()}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main(directory: str, dtype: str) -> None:
    """Load a model once and print how long it took, and how much memory at most beside what was used before."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from muxjax.models.load import load_model

    jax.block_until_ready(jnp.zeros(8) + 1)  # JAX is up
    before = _peak_bytes()
    started = time.perf_counter()
    model = load_model(directory, dtype=jnp.dtype(dtype), unroll=True)
    leaves = jax.block_until_ready(jax.tree.leaves(nnx.state(model.decoder)))
    figures = {
        "seconds": time.perf_counter() - started,
        "peak_bytes": _peak_bytes() - before,
        "file_bytes": sum(path.stat().st_size for path in Path(directory).glob("*.safetensors")),
        "weight_bytes": sum(leaf.nbytes for leaf in leaves),
    }
    print(json.dumps(figures))


def _peak_bytes() -> int:
    """The most memory that this program ever used."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's figure would be that of the parent, if that was larger
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    from muxjax.allocator import keep_freed_memory

    keep_freed_memory()
    main(*sys.argv[1:])
