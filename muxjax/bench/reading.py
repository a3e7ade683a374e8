"""How fast a checkpoint becomes parameters or another checkpoint, and in how much memory: in processes of their own.

The files were written just before, so they are read from the system's cache and not from a disk.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from muxjax.bench.result import BenchError, Budget, Part, median
from muxjax.bench.settings import Settings

_LEAST_GB_PER_SECOND = 1.0
_MOST_MEMORY = 1.5
_FUSED = MappingProxyType({"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"})
_SHARDS = 4


@dataclass(frozen=True, slots=True)
class _Case:
    """How a checkpoint is stored, and what it is read as."""

    stored: str
    dtype: str
    layout: str = "one file"
    quantization: str | None = None

    @property
    def directory(self) -> str:
        return f"{self.layout}, {self.stored}"

    @property
    def name(self) -> str:
        return f"{self.directory} as {self.quantization or self.dtype}"

    @property
    def is_widened(self) -> bool:
        """Whether half of what is written was never in the file."""
        return self.stored != self.dtype


_CASES = (
    _Case("float32", "float32"),
    _Case("bfloat16", "bfloat16"),
    _Case("float16", "float16"),
    _Case("bfloat16", "float32"),
    _Case("bfloat16", "bfloat16", f"{_SHARDS} files"),
    _Case("bfloat16", "bfloat16", "fused"),
    _Case("float32", "float32", quantization="int8"),
    _Case("float32", "float32", "Orbax"),
)
_CONVERSIONS = (("one file, float32", "Orbax"), ("Orbax, float32", "safetensors"))


def measure(settings: Settings, tell: Callable[[str], None]) -> Part:
    """Read the model as it is stored, widened and in eight bits, layer by layer as serving does; convert it."""
    with tempfile.TemporaryDirectory() as folder:
        for case in _CASES:
            if not (Path(folder) / case.directory).exists():
                tell(f"checkpoint: writing {case.directory}, of {settings.checkpoint_layers} layers")
                _write(Path(folder), case, settings)
        cases: list[dict[str, Any]] = []
        for case in _CASES:
            tell(f"checkpoint: reading {case.name}")
            arguments = (str(Path(folder) / case.directory), case.dtype, case.quantization or "")
            rounds = [_in_own_process("read", *arguments) for _ in range(settings.rounds)]
            cases.append({"layout": case.layout, "stored": case.stored, "dtype": case.quantization or case.dtype})
            cases[-1] |= _summary(rounds)
        conversions = []
        for source, to in _CONVERSIONS:
            tell(f"checkpoint: from {source} to {to}")
            rounds = [_in_own_process("convert", str(Path(folder) / source)) for _ in range(settings.rounds)]
            conversions.append({"source": source, "to": to, **_summary(rounds)})
    budgets = (budget for case, figures in zip(_CASES, cases, strict=True) for budget in _budgets(case, figures))
    return Part({"cases": cases, "conversions": conversions}, tuple(budgets))


def _write(folder: Path, case: _Case, settings: Settings) -> None:
    from muxjax.bench.checkpoint import write_checkpoint
    from muxjax.models.convert import convert

    directory = folder / case.directory
    directory.mkdir()
    if case.layout == "Orbax":
        convert(folder / f"one file, {case.stored}", directory)
        return
    fields = {**settings.model, "num_hidden_layers": settings.checkpoint_layers}
    if case.layout == "fused":
        fields |= _FUSED
    shards = _SHARDS if case.layout == f"{_SHARDS} files" else 1
    write_checkpoint(directory, fields, dtype=case.stored, shards=shards)


def _summary(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        "file_gb": rounds[0]["file_bytes"] / 1e9,
        "weights_gb": rounds[0]["weight_bytes"] / 1e9,
        "seconds": median([one["seconds"] for one in rounds]),
        "gb_per_second": median([one["file_bytes"] / one["seconds"] / 1e9 for one in rounds]),
        "peak_memory": max(one["peak_bytes"] / one["weight_bytes"] for one in rounds),
    }


def _budgets(case: _Case, figures: Mapping[str, Any]) -> Iterator[Budget]:
    is_plain = case.layout != "Orbax" and case.quantization is None and not case.is_widened
    if is_plain:
        yield Budget(f"GB/s, {case.name}", _LEAST_GB_PER_SECOND, figures["gb_per_second"], at_least=True)
    yield Budget(f"peak memory / weights, {case.name}", _MOST_MEMORY, figures["peak_memory"], at_least=False)


def _in_own_process(task: str, *arguments: str) -> dict[str, Any]:
    """What `main` prints there. Raises BenchError."""
    command = [sys.executable, "-m", "muxjax.bench.reading", task, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the checkpoint could not be read: {done.stderr.strip()}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main(task: str, directory: str, *options: str) -> None:
    """Do it once and print how long it took, and how much memory at most beside what was used before."""
    import jax
    import jax.numpy as jnp

    import muxjax.models.convert  # noqa: F401  (and what it needs, before time begins)

    jax.block_until_ready(jnp.zeros(8) + 1)  # JAX is up
    before = _peak_bytes()
    started = time.perf_counter()
    weight_bytes = _read(Path(directory), *options) if task == "read" else _convert(Path(directory))
    figures = {
        "seconds": time.perf_counter() - started,
        "peak_bytes": _peak_bytes() - before,
        "file_bytes": sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file()),
        "weight_bytes": weight_bytes,
    }
    print(json.dumps(figures))


def _read(directory: Path, dtype: str, quantization: str) -> int:
    """Load the model; returns its weights' size."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from muxjax.models.load import load_model

    quantized: Any = quantization or None
    model = load_model(directory, dtype=jnp.dtype(dtype), unroll=True, quantization=quantized)
    leaves = jax.block_until_ready(jax.tree.leaves(nnx.state(model.decoder)))
    return sum(leaf.nbytes for leaf in leaves)


def _convert(directory: Path) -> int:
    """Write the model in the other format; returns its weights' size."""
    from muxjax.models.convert import convert
    from muxjax.models.load import weight_bytes

    with tempfile.TemporaryDirectory(dir=directory.parent) as destination:
        convert(directory, Path(destination))
    return weight_bytes(directory, dtype="float32")


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
