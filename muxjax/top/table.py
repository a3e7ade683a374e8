"""The LLMs, two lines for each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from muxjax.serving.history import LLMHistory, Series
from muxjax.serving.statistics import Percentiles
from muxjax.serving.unit import LLMStatus
from muxjax.top.bars import Part, bar, line
from muxjax.top.figures import percent, percentiles, printable, rate, seconds
from muxjax.top.glyphs import Glyphs

HEADER_LINES, LINES_PER_LLM = 2, 2

_WIDE = 100  # from here on each latency has a column with its graph and what was promised
_LEAST_GRAPH = 6
_STATES = {"ready": "green", "failed": "bold red", "stalled": "bold red"}


def table(
    llms: Iterable[LLMStatus],
    history: Mapping[str, LLMHistory],
    colors: Mapping[str, str],
    width: int,
    glyphs: Glyphs,
) -> Table:
    """One row for each LLM; the wider the terminal, the longer the graphs."""
    columns = _WIDE_COLUMNS if width >= _WIDE else _NARROW_COLUMNS
    graph = _LEAST_GRAPH + max(width - _WIDE, 0) // len(columns)
    shown = Table(box=None, padding=(0, 1, 0, 0), width=width)
    for title, unit, _ in columns:
        header = Text.assemble((title, "bold"), "\n", (unit, "dim"))
        shown.add_column(header, no_wrap=True, overflow="ellipsis", ratio=1 if title == "LLM" else None)
    for llm in llms:
        row = _Row(llm, history[llm.name], colors[llm.name], graph, glyphs)
        shown.add_row(*(cell(row) for _, _, cell in columns))
    return shown


@dataclass(frozen=True, slots=True)
class _Row:
    """Makes the cells of one LLM, each a line of figures with one of words or a graph below."""

    llm: LLMStatus
    history: LLMHistory
    color: str
    graph: int
    glyphs: Glyphs

    def name(self) -> Text:
        llm = self.llm
        errors = f", {llm.errors:,} err" if llm.errors else ""
        state = f"compile {llm.programs_compiled}/{llm.programs_needed}" if llm.state == "compiling" else llm.state
        return _cell((printable(llm.name), f"bold {self.color}"), (state + errors, _STATES.get(llm.state, "yellow")))

    def requests(self) -> Text:
        return _cell(f"{self.llm.running:,}, {self.llm.waiting:,}", self._line(self.history.running, top=4))

    def pool(self) -> Text:
        borrowed = self.llm.blocks_borrowed
        words = f"borrows {borrowed:,}" if borrowed > 0 else f"lends {-borrowed:,}" if borrowed < 0 else ""
        return _cell(f"{self.llm.blocks_used:,}/{self.llm.blocks_quota:,}", (words, "dim"))

    def steps(self) -> Text:
        prefill, decode = self.llm.prefill_share, self.llm.decode_share
        parts = (
            Part(prefill, self.glyphs.full, self.color),
            Part(decode, self.glyphs.half, self.color),
            Part(1 - prefill - decode, self.glyphs.empty, "dim"),
        )
        return _cell(f"{percent(prefill)}, {percent(decode)}", bar(parts, 1.0, self.graph))

    def tokens(self) -> Text:
        return _cell(rate(self.llm.tokens_per_second), self._line(self.history.tokens_per_second, top=1))

    def ttft(self) -> Text:
        return self._latency(self.llm.ttft, self.llm.slo.ttft if self.llm.slo else None, self.history.ttft_p50)

    def tpot(self) -> Text:
        return self._latency(self.llm.tpot, self.llm.slo.tpot if self.llm.slo else None, self.history.tpot_p50)

    def latencies(self) -> Text:
        return _cell(f"first {percentiles(self.llm.ttft)}", f"each  {percentiles(self.llm.tpot)}")

    def slo(self) -> Text:
        return _cell(percent(self.llm.slo_attainment), ("" if self.llm.slo else "none", "dim"))

    def _latency(self, recent: Percentiles | None, target: float | None, values: Series) -> Text:
        below = Text.assemble(self._line(values))
        if target is not None:
            missed = recent is not None and recent.p90 > target
            sign, style = (">", "bold red") if missed else (self.glyphs.at_most, "dim")
            below.append(f" {sign}{seconds(target)}", style)
        return _cell(percentiles(recent), below)

    def _line(self, values: Series, top: float = 0.0) -> tuple[str, str]:
        return line(values, self.graph, self.glyphs, top), self.color


def _cell(figures: str | tuple[str, str], below: str | tuple[str, str] | Text) -> Text:
    return Text.assemble(figures, "\n", below)


type _Column = tuple[str, str, Callable[[_Row], Text]]

_COMMON: tuple[_Column, ...] = (
    ("LLM", "", _Row.name),
    ("requests", "run, wait", _Row.requests),
    ("pool", "of quota", _Row.pool),
    ("steps", "pre, dec", _Row.steps),
    ("tokens/s", "out", _Row.tokens),
)
_SLO: _Column = ("SLO", "kept", _Row.slo)
_WIDE_COLUMNS: tuple[_Column, ...] = (
    *_COMMON,
    ("first token", "p50/90/99", _Row.ttft),
    ("per token", "p50/90/99", _Row.tpot),
    _SLO,
)
_NARROW_COLUMNS: tuple[_Column, ...] = (*_COMMON, ("token after", "p50/90/99", _Row.latencies), _SLO)
