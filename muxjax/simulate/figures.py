"""The figures of MuxServe's paper, simulated, with what its authors measured: data for drawing and for JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from muxjax.placement.cost.interpolated import InterpolatedTable
from muxjax.placement.cost.table import CostTable
from muxjax.placement.errors import PlacementError
from muxjax.serving.simulation.ablation import read_ablation, simulate_policies
from muxjax.serving.simulation.measured import MEASURED_SYSTEMS, MeasuredRun, read_measured
from muxjax.serving.simulation.validation import Comparison
from muxjax.simulate.replaying import MOST_GPUS, replay_runs

_OURS = "muxjax"
_SLO_RATE_SCALE = 0.5  # of the paper's figure
_LARGEST_SLO = 20


@dataclass(slots=True)
class Series:
    """One system: what was simulated and, for the systems of the paper, measured, at the same places of the x axis."""

    simulated: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: its title, and its systems by name."""

    title: str
    series: Mapping[str, Series]


@dataclass(frozen=True, slots=True)
class Figure:
    """What is drawn.

    Attributes:
        name: throughput, slo, chatlmsys or ablation.
        title: what is to be seen.
        x: label of the x axes.
        y: label of the y axes.
        panels: from left to right.
    """

    name: str
    title: str
    x: str
    y: str
    panels: Sequence[Panel]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "figure": self.name,
            "title": self.title,
            "x": self.x,
            "y": self.y,
            "panels": [
                {
                    "title": panel.title,
                    "systems": {
                        name: {"simulated": _rounded(series.simulated), "measured": _rounded(series.measured)}
                        for name, series in panel.series.items()
                    },
                }
                for panel in self.panels
            ],
        }


def throughput(folder: Path, table: CostTable, seed: int) -> Figure:
    """Fig. 5, above: total throughput over the rates, for each exponent of the power law."""
    comparisons = _replayed(folder, table, seed, lambda run: run.is_power_law)
    return Figure(
        "throughput",
        "Throughput of 19 LLMs on 32 A100 GPUs",
        "rate scale (40 requests/s of the most popular LLM at 1)",
        "requests/s, all LLMs",
        _panels(comparisons, lambda run: run.case.rpartition("_")[2]),
    )


def chatlmsys(folder: Path, table: CostTable, seed: int) -> Figure:
    """Fig. 7: total throughput on ChatLMSYS's trace, condensed to three rates."""
    comparisons = _replayed(folder, table, seed, lambda run: not run.is_power_law)
    return Figure(
        "chatlmsys",
        "Throughput of 16 LLMs on 32 A100 GPUs, ChatLMSYS",
        "requests/s that were sent",
        "requests/s, all LLMs",
        _panels(comparisons, lambda run: f"{sum(llm.rate for llm in run.llms.values()):.1f}"),
    )


def slo(folder: Path, table: CostTable, seed: int) -> Figure:
    """Fig. 5, below: which part of the requests ends within multiples of its latency alone."""
    case = f"_{_SLO_RATE_SCALE:g}"
    comparisons = _replayed(folder, table, seed, lambda run: run.is_power_law and run.case.endswith(case))
    panels: dict[str, dict[str, Series]] = {}
    for comparison in comparisons:
        run = comparison.run
        series = panels.setdefault(_title(run), {}).setdefault(run.system, Series())
        for scale in (scale for scale in comparison.attainment if scale <= _LARGEST_SLO):
            series.simulated[f"{scale:g}"] = comparison.attainment[scale]
            if run.system in MEASURED_SYSTEMS:
                series.measured[f"{scale:g}"] = run.attainment[scale]
    return Figure(
        "slo",
        f"SLO attainment of 19 LLMs on 32 A100 GPUs, rate scale {_SLO_RATE_SCALE:g}",
        "SLO scale (multiples of the latency alone)",
        "requests within it, %",
        [Panel(title, series) for title, series in sorted(panels.items())],
    )


def ablation(folder: Path, table: CostTable, seed: int) -> Figure:
    """Fig. 9: policies on one unit with LLaMA-65B and LLaMA-30B."""
    measured = read_ablation(folder)
    table.check(["llama-65b", "llama-30b"], MOST_GPUS)
    simulated = dict(simulate_policies(InterpolatedTable(table), seed))
    series = {"policies": Series(simulated, measured)}
    title = "Policies on one unit: LLaMA-65B (1/s) and LLaMA-30B (8/s) on 4 A100 GPUs"
    return Figure("ablation", title, "policy", "requests/s, both LLMs", [Panel("", series)])


FIGURES: Mapping[str, Callable[[Path, CostTable, int], Figure]] = {
    "throughput": throughput,
    "slo": slo,
    "chatlmsys": chatlmsys,
    "ablation": ablation,
}


def _replayed(folder: Path, table: CostTable, seed: int, wanted: Callable[[MeasuredRun], bool]) -> list[Comparison]:
    """The measured runs, and each of MuxServe's once more with muxjax's steps: same placement, memory and requests."""
    runs = [run for run in read_measured(folder) if wanted(run) and run.comparable]
    if not runs:
        raise PlacementError(f"{folder}: has none of the measured runs of this figure")
    ours = [replace(run, system=_OURS) for run in runs if run.system == "muxserve"]
    return replay_runs(runs + ours, table, seed)


def _panels(comparisons: Iterable[Comparison], x_of: Callable[[MeasuredRun], str]) -> list[Panel]:
    """Total throughputs, with the places of the x axis in ascending order."""
    panels: dict[str, dict[str, Series]] = {}
    for comparison in sorted(comparisons, key=lambda comparison: float(x_of(comparison.run))):
        run = comparison.run
        series = panels.setdefault(_title(run), {}).setdefault(run.system, Series())
        series.simulated[x_of(run)] = comparison.total
        if run.system in MEASURED_SYSTEMS:
            series.measured[x_of(run)] = run.throughput
    return [Panel(title, series) for title, series in sorted(panels.items())]


def _title(run: MeasuredRun) -> str:
    return f"alpha {run.case.rpartition('/')[2].partition('_')[0]}" if run.is_power_law else ""


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {x: round(y, 2) for x, y in values.items()}
