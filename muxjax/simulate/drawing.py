"""Pictures: curves that were simulated, points that were measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from muxjax.placement.errors import PlacementError
from muxjax.simulate.figures import Figure, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDS_MATPLOTLIB = "figures need matplotlib: install muxjax with its extra `figures` (pip install 'muxjax[figures]')"

# Okabe and Ito's colours, which people who do not see all colours can tell apart; markers tell them apart in grey.
_STYLES: Mapping[str, tuple[str, str, str]] = {
    "spatial": ("#E69F00", "s", "spatial partitioning"),
    "temporal": ("#56B4E9", "^", "temporal multiplexing"),
    "muxserve": ("#0072B2", "o", "MuxServe"),
    "muxjax": ("#D55E00", "D", "muxjax, packed steps"),
}


def draw(figure: Figure, paths: Sequence[Path]) -> None:
    """Write the picture to files of the kinds that their suffixes say: the same bytes for the same figure.

    Raises:
        PlacementError: a file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    bars = figure.name == "ablation"
    canvas = Canvas(figsize=(max(7.5, 3.6 * len(figure.panels) + 1.6), 4.6), dpi=150, layout="constrained")
    grid = canvas.subplots(1, len(figure.panels), squeeze=False)[0]
    for axes, panel in zip(grid, figure.panels, strict=True):
        (_draw_bars if bars else _draw_curves)(axes, panel)
        axes.set_title(panel.title, fontsize=11)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    canvas.suptitle(figure.title, fontsize=12)
    grid[len(grid) // 2].set_xlabel(figure.x)
    grid[0].set_ylabel(figure.y)
    handles, labels = grid[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=4 if len(figure.panels) > 1 else 2, frameon=False)
    for path in paths:
        undated = {"Date": None} if path.suffix == ".svg" else None
        try:
            with rc_context({"svg.fonttype": "none", "svg.hashsalt": figure.name}):  # text as text
                canvas.savefig(path, metadata=undated)
        except OSError as error:
            raise PlacementError(f"{path}: cannot be written: {error.strerror}") from error


def _draw_curves(axes: "Axes", panel: Panel) -> None:
    for system, series in panel.series.items():
        colour, marker, name = _STYLES[system]
        simulated = list(map(float, series.simulated)), list(series.simulated.values())
        axes.plot(*simulated, ".-", color=colour, markersize=4, label=name)
        axes.plot(
            list(map(float, series.measured)),
            list(series.measured.values()),
            marker,
            color=colour,
            markerfacecolor="none",
            label=f"{name}, measured" if series.measured else None,
        )


def _draw_bars(axes: "Axes", panel: Panel) -> None:
    (series,) = panel.series.values()
    policies = list(series.simulated)
    measured = [policy for policy in policies if policy in series.measured]
    for name, colour, offset, shown, values in (
        ("simulated", "#0072B2", -0.2, policies, series.simulated),
        ("measured", "#E69F00", 0.2, measured, series.measured),
    ):
        places = [policies.index(policy) + offset for policy in shown]
        bars = axes.bar(places, [values[policy] for policy in shown], 0.38, color=colour, label=name)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=9)
    axes.set_xticks(range(len(policies)), [p if p in measured else f"{p}\n(not measured)" for p in policies])
    axes.set_xlim(-0.5, len(policies) - 0.5)
