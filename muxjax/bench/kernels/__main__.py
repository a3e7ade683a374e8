"""`python -m muxjax.bench.kernels [--smoke] [--output FOLDER]`."""

import sys

from muxjax.bench.device_run import Benchmark, command
from muxjax.bench.kernels.scale import FULL, SMOKE
from muxjax.bench.kernels.sections import sections
from muxjax.bench.kernels.tables import sheets
from muxjax.bench.kernels.targets import budgets

KERNELS = Benchmark(
    "kernels",
    "Check and measure the attention kernels on this machine's NVIDIA GPU, in under six minutes.",
    lambda is_smoke: sections(SMOKE if is_smoke else FULL),
    budgets,
    sheets,
    case_seconds=30,
)


def main(arguments: list[str] | None = None) -> int:
    """Measures; returns the process's exit code."""
    return command(KERNELS, arguments)


if __name__ == "__main__":
    sys.exit(main())
