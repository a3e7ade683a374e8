"""`python benchmarks/placement.py CASES_DIR COST_TABLE`: every search on MuxServe's cases, as docs/placement.md shows.

CASES_DIR holds JSON files whose `input` is a cluster and its LLMs; where a file has the released code's own time, the
last columns say how many times faster the searches are. The last line is of 1,000 LLMs on 1,024 GPUs, by `best` alone.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from muxjax.place.problem_file import load_problem
from muxjax.placement.cost.rounded import RoundedTable
from muxjax.placement.cost.table import read_table
from muxjax.placement.errors import PlacementError
from muxjax.placement.known_models import find_model
from muxjax.placement.placement import Placement
from muxjax.placement.problem import LLM, Cluster, Problem
from muxjax.placement.solve import solve
from muxjax.placement.workload import power_law_rates

_SEARCHES = ("published", "released", "greedy", "best")


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path)
    parser.add_argument("table", type=Path)
    options = parser.parse_args()
    costs = RoundedTable(read_table(options.table))
    print(f"| case | asked | {' | '.join(_SEARCHES)} | bound | gap | published faster | best faster |")
    print("|---" * 10 + "|")
    for path in sorted(options.cases.glob("*.json")):
        case = json.loads(path.read_text())
        print(_line(path.stem, case, _problem(case["input"]), costs), flush=True)
    large = _large()
    best = solve(large, costs, "best")
    asked = sum(llm.rate for llm in large.llms)
    cells = [f"{best.throughput:.2f}", f"{best.upper_bound:.2f}", f"{best.gap:.1%}", "", f"{best.seconds:.1f} s"]
    print(f"| 1,000 LLMs on 1,024 GPUs | {asked:.2f} | | | | {' | '.join(cells)} |")


def _large() -> Problem:
    """A power law of four sizes of LLaMA."""
    models = ("llama-7b", "llama-7b", "llama-13b", "llama-30b", "llama-7b", "llama-13b", "llama-7b", "llama-65b")
    rates = power_law_rates(1_000, alpha=1.3, highest=40.0)
    llms = (
        LLM(f"llm-{number}", find_model(models[number % len(models)]), rate, 161, 337)
        for number, rate in enumerate(rates)
    )
    return Problem(Cluster(nnodes=128, ngpus_per_node=8, memory_per_gpu_gb=80.0), tuple(llms))


def _problem(given: dict[str, Any]) -> Problem:
    """A case's input, read as `muxjax.place` reads it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(given, file)
        file.flush()
        return load_problem(Path(file.name)).problem


def _line(name: str, case: dict[str, Any], problem: Problem, costs: RoundedTable) -> str:
    placements = {search: _solve(problem, costs, search) for search in _SEARCHES}
    best = placements["best"]
    assert best is not None
    shown = [f"{found.throughput:.2f}" if found else "none" for found in placements.values()]
    asked = sum(llm.rate for llm in problem.llms)
    took = (case.get("reference_as_is") or {}).get("seconds")
    timed = [placements[search] for search in ("published", "best")]
    faster = [f"{took / found.seconds:.0f}x" if took and found else "" for found in timed]
    cells = [name, f"{asked:.2f}", *shown, f"{best.upper_bound:.2f}", f"{best.gap:.1%}", *faster]
    return f"| {' | '.join(cells)} |"


def _solve(problem: Problem, costs: RoundedTable, search: str) -> Placement | None:
    try:
        return solve(problem, costs, search)
    except PlacementError:
        return None


if __name__ == "__main__":
    main()
