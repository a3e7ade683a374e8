"""One moment of a server as a screenful of text."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from muxjax.client.tables import duration
from muxjax.serving.unit import LLMStatus, UnitStatus
from muxjax.top.figures import percent, printable, rate
from muxjax.top.glyphs import Glyphs
from muxjax.top.meters import compute, memory
from muxjax.top.source import Moment
from muxjax.top.table import HEADER_LINES, LINES_PER_LLM, table

_COLORS = ("cyan", "magenta", "yellow", "green", "blue", "bright_red", "bright_cyan", "bright_magenta")


def screen(moment: Moment, address: str, width: int, height: int | None, glyphs: Glyphs) -> RenderableType:
    """All of it; as many LLMs as fit into `height` lines, which None leaves open."""
    unit = moment.overview.unit
    colors = {llm.name: _COLORS[index % len(_COLORS)] for index, llm in enumerate(unit.llms)}
    above = [
        _title(moment, address, width),
        _totals(unit),
        Text(),
        *memory(unit, colors, width, glyphs),
        Text(),
        *compute(unit, colors, width, glyphs),
        Text(),
    ]
    below = _notes(unit)
    room = len(unit.llms)
    if height is not None:
        lines = len(above) + HEADER_LINES + sum(-(-len(note) // width) for note in below) + 1
        room = max((height - lines) // LINES_PER_LLM, 1)
    if room < len(unit.llms):
        below.append(Text(f"{len(unit.llms) - room} more LLMs: enlarge the window to see them", "dim"))
    return Group(*above, table(unit.llms[:room], moment.overview.history, colors, width, glyphs), *below)


def _title(moment: Moment, address: str, width: int) -> Text:
    left = Text.assemble(
        ("muxjax", "bold"), f" {moment.overview.version} at {address}  {_states(moment.overview.unit.llms)}"
    )
    right = Text(f"up {duration(moment.overview.uptime_seconds)}")
    if not moment.is_live:
        right = Text("connection lost, trying again", "bold red")
    left.truncate(width - len(right) - 1, overflow="ellipsis")
    return Text.assemble(left, " " * (width - len(left) - len(right)), right)


def _states(llms: Sequence[LLMStatus]) -> str:
    return ", ".join(f"{number} {state}" for state, number in Counter(llm.state for llm in llms).items())


def _totals(unit: UnitStatus) -> Text:
    attained = [llm.slo_attainment for llm in unit.llms if llm.slo_attainment is not None]
    figures = (
        f"{rate(sum(llm.tokens_per_second for llm in unit.llms))} tokens/s",
        f"{sum(llm.running for llm in unit.llms):,} running",
        f"{sum(llm.waiting for llm in unit.llms):,} waiting",
        f"lowest SLO {percent(min(attained, default=None))}",
        f"fairness gap {unit.fairness_gap:.2f}",
    )
    return Text(", ".join(figures))


def _notes(unit: UnitStatus) -> list[Text]:
    """What needs words: why LLMs failed, and that nothing has happened yet."""
    notes = [Text(printable(f"{llm.name}: {llm.error}"), "red") for llm in unit.llms if llm.error]
    if unit.steps == 0:
        notes.append(Text("Nothing has run yet.", "dim"))
    return notes
