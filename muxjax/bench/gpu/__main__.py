"""`python -m muxjax.bench.gpu [--smoke] [--output FOLDER]`."""

import sys
import tempfile
from pathlib import Path

from muxjax.bench.device_run import Benchmark, command
from muxjax.bench.gpu.scale import FULL, SMOKE
from muxjax.bench.gpu.sections import sections
from muxjax.bench.gpu.tables import sheets
from muxjax.bench.gpu.targets import budgets


def main(arguments: list[str] | None = None) -> int:
    """Measures; returns the process's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        gpu = Benchmark(
            "gpu",
            "Measure steps of several LLMs, and a unit of three, on this machine's NVIDIA GPU, in under nine minutes.",
            lambda is_smoke: sections(SMOKE if is_smoke else FULL, Path(folder)),
            budgets,
            sheets,
            case_seconds=90,
        )
        return command(gpu, arguments)


if __name__ == "__main__":
    sys.exit(main())
