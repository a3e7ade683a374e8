"""`python -m muxjax.bench.kernels [--smoke] [--output FOLDER]`."""

import argparse
import json
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from muxjax.bench.isolated import Outcome, Section, run_here, run_isolated
from muxjax.bench.kernels.scale import FULL, SMOKE
from muxjax.bench.kernels.sections import sections
from muxjax.bench.kernels.tables import sheets
from muxjax.bench.kernels.targets import budgets
from muxjax.bench.result import rounded
from muxjax.bench.tables import print_sheets

_CASE_SECONDS = 30  # of which most is compilation, if it is not stuck
_WIDTH = 200


def main(arguments: list[str] | None = None) -> int:
    """Measure, write after every section, show; 1 if something that was checked is wrong, 2 without a GPU."""
    options = _parse(arguments)
    started = time.monotonic()
    results: dict[str, Any] = {
        "benchmark": "kernels",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {},
        "parts": {},
        "budgets": [],
    }
    cases: list[Outcome] = []
    for together in sections(SMOKE if options.smoke else FULL):
        names = [section.name for section in together]
        print(f"{time.monotonic() - started:4.0f} s  {'; '.join(names)}", file=sys.stderr, flush=True)
        for name, outcomes in zip(names, _run(together, options.smoke), strict=True):
            results["parts"][name] = {"cases": rounded(outcomes)}
            cases += results["parts"][name]["cases"]
        if not results["machine"]:
            machine = results["machine"] = results["parts"]["ceilings"]["cases"].pop(0)
            if machine.get("platform") != "gpu" and not options.smoke:
                print(f"there is no GPU here: {machine.get('error', 'JAX finds none')}", file=sys.stderr)
                return 2
        results["budgets"] = [budget.as_dict() for budget in budgets(cases)]
        _write(results, options.output)
    print_sheets(sheets(results), Console(width=None if sys.stdout.isatty() else _WIDTH))
    print(f"{time.monotonic() - started:.0f} s; the figures are in {_path(results, options.output)}")
    return int(any(case.get("is_right") is False for case in cases))


def _run(together: list[Section], is_smoke: bool) -> list[list[Outcome]]:
    """The outcomes of sections that run at the same time; a smoke test has no device that they could break."""
    if is_smoke:
        return [list(run_here(section)) for section in together]
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # of the processes to come: none takes memory from another
    with ThreadPoolExecutor(len(together)) as threads:
        return list(threads.map(lambda section: list(run_isolated(section, case_seconds=_CASE_SECONDS)), together))


def _path(results: dict[str, Any], folder: Path) -> Path:
    device = re.sub(r"[^a-z0-9]+", "-", str(results["machine"].get("device", "unknown")).lower()).strip("-")
    return folder / f"{device}-kernels.json"


def _write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _path(results, folder).write_text(json.dumps(results, indent=1) + "\n")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.bench.kernels",
        description="Check and measure the attention kernels on this machine's NVIDIA GPU, in under six minutes.",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="run all of it on a CPU, interpreted; the figures say nothing"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), metavar="FOLDER", help="default: %(default)s"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
