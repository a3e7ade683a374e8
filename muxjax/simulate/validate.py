"""Measured runs beside predicted ones."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from muxjax.placement.cost.table import CostTable
from muxjax.serving.simulation.measured import read_measured
from muxjax.serving.simulation.validation import (
    ENOUGH_RANKED,
    ENOUGH_WITHIN,
    Comparison,
    ranked_alike,
    within_target,
)
from muxjax.simulate.replaying import replay_runs


def run(folder: Path, table: CostTable, seed: int) -> dict[str, Any]:
    """Replay all runs of the folder, side by side on this machine's cores; the result is ready for JSON.

    Raises PlacementError for files that cannot be used.
    """
    comparisons = replay_runs(read_measured(folder), table, seed)
    within, ranked = within_target(comparisons), ranked_alike(comparisons)
    return {
        "runs": [_as_dict(comparison) for comparison in comparisons],
        "within_15_percent": {"runs": len(within), "part": _part(within), "target": ENOUGH_WITHIN},
        "ranked_as_measured": {
            "cases": len(ranked),
            "part": _part([alike for _, alike in ranked]),
            "target": ENOUGH_RANKED,
            "otherwise": [case for case, alike in ranked if not alike],
        },
    }


def show(result: dict[str, Any]) -> None:
    """A table for people, LLM by LLM, and whether the targets are met."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("case", "system", "LLM", "measured/s", "predicted/s", "ratio", "SLO scale: measured / predicted %")
    for entry in result["runs"]:
        scales = [f"{scale}: {both['measured']:.0f}/{both['predicted']:.0f}" for scale, both in entry["slo"].items()]
        note = "" if entry["comparable"] else " (not comparable)"
        table.add_section()
        table.add_row(entry["case"], entry["system"], f"all{note}", *_figures(entry), "  ".join(scales))
        for name, llm in entry["llms"].items():
            table.add_row("", "", name, *_figures(llm), "")
    console.print(table)
    within, ranked = result["within_15_percent"], result["ranked_as_measured"]
    console.print(
        f"total within 15%: {within['part']:.0%} of {within['runs']} comparable runs (target {within['target']:.0%})"
    )
    console.print(
        f"systems ranked as measured: {ranked['part']:.0%} of {ranked['cases']} cases (target {ranked['target']:.0%})"
    )


def _figures(entry: dict[str, float]) -> list[str]:
    return [f"{entry['measured']:.2f}", f"{entry['predicted']:.2f}", f"{entry['ratio']:.2f}"]


def _as_dict(comparison: Comparison) -> dict[str, Any]:
    run = comparison.run
    return {
        "case": run.case,
        "system": run.system,
        "comparable": run.comparable,
        **_compare(run.throughput, comparison.total),
        "llms": {name: _compare(llm.throughput, comparison.predicted[name]) for name, llm in run.llms.items()},
        "slo": {
            f"{scale:g}": {"measured": round(part, 2), "predicted": round(comparison.attainment[scale], 2)}
            for scale, part in run.attainment.items()
        },
    }


def _compare(measured: float, predicted: float) -> dict[str, float]:
    return {
        "measured": round(measured, 3),
        "predicted": round(predicted, 3),
        "ratio": round(predicted / measured, 3) if measured else float("inf"),
    }


def _part(verdicts: list[bool]) -> float:
    return round(sum(verdicts) / len(verdicts), 4) if verdicts else 0.0
