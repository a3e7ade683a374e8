"""The command line of a benchmark of a GPU: measure section by section, write after each, show, judge."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from muxjax.bench.isolated import Outcome, Section, run_here, run_isolated
from muxjax.bench.result import Budget, rounded
from muxjax.bench.tables import Sheet, print_sheets

MACHINE = "ceilings"  # the section whose first case describes the machine
_WIDTH = 200

Results = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What differs between one benchmark and another.

    Attributes:
        name: in the results and in the names of their files.
        description: for --help.
        plan: its sections, those of one list at the same time, in full or as a smoke test.
        budgets: judges all cases.
        sheets: shows the results.
        case_seconds: that a case may take, most of it compilation; after that it is stuck.
    """

    name: str
    description: str
    plan: Callable[[bool], list[list[Section]]]
    budgets: Callable[[Sequence[Outcome]], list[Budget]]
    sheets: Callable[[Results], Iterable[Sheet]]
    case_seconds: float


def command(benchmark: Benchmark, arguments: list[str] | None) -> int:
    """Runs a benchmark; 1 if something that was checked is wrong, 2 without a GPU."""
    options = _parse(benchmark, arguments)
    started = time.monotonic()
    results: Results = {
        "benchmark": benchmark.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {},
        "parts": {},
        "budgets": [],
    }
    cases: list[Outcome] = []
    for together in benchmark.plan(options.smoke):
        names = [section.name for section in together]
        print(f"{time.monotonic() - started:4.0f} s  {'; '.join(names)}", file=sys.stderr, flush=True)
        outcomes = _run(together, options.smoke, benchmark.case_seconds)
        results["parts"] |= {name: {"cases": rounded(found)} for name, found in zip(names, outcomes, strict=True)}
        if not results["machine"]:
            machine = results["machine"] = results["parts"][MACHINE]["cases"].pop(0)
            if machine.get("platform") != "gpu" and not options.smoke:
                print(f"there is no GPU here: {machine.get('error', 'JAX finds none')}", file=sys.stderr)
                return 2
        cases = [case for part in results["parts"].values() for case in part["cases"]]
        results["budgets"] = [budget.as_dict() for budget in benchmark.budgets(cases)]
        _write(results, options.output)
    print_sheets(benchmark.sheets(results), Console(width=None if sys.stdout.isatty() else _WIDTH))
    print(f"{time.monotonic() - started:.0f} s; the figures are in {_path(results, options.output)}")
    return int(any(case.get("is_right") is False for case in cases))


def _run(together: list[Section], is_smoke: bool, case_seconds: float) -> list[list[Outcome]]:
    """The outcomes of sections that run at the same time; a smoke test has no device that they could break."""
    if is_smoke:
        # Mosaic's interpreter would hang on two cores: it holds a thread of XLA's for each warpgroup, beside one more.
        os.environ.setdefault("NPROC", str(max(4, os.cpu_count() or 1)))
        return [list(run_here(section)) for section in together]
    # Of the processes to come: none takes memory from another, and one alone may have nearly all.
    os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}
    with ThreadPoolExecutor(len(together)) as threads:
        return list(threads.map(lambda section: list(run_isolated(section, case_seconds=case_seconds)), together))


def _path(results: Results, folder: Path) -> Path:
    device = re.sub(r"[^a-z0-9]+", "-", str(results["machine"].get("device", "unknown")).lower()).strip("-")
    return folder / f"{device}-{results['benchmark']}.json"


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _path(results, folder).write_text(json.dumps(results, indent=1) + "\n")


def _parse(benchmark: Benchmark, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m muxjax.bench.{benchmark.name}", description=benchmark.description)
    parser.add_argument(
        "--smoke", action="store_true", help="run all of it on a CPU, interpreted; the figures say nothing"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), metavar="FOLDER", help="default: %(default)s"
    )
    return parser.parse_args(arguments)
