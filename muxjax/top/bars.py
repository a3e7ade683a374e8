"""Bars and lines of characters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from muxjax.top.figures import printable
from muxjax.top.glyphs import Glyphs


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a bar.

    Attributes:
        size: in the bar's own unit.
        glyph: what it is filled with.
        style: of its characters.
    """

    size: float
    glyph: str
    style: str


def bar(parts: Sequence[Part], total: float, width: int) -> Text:
    """The parts side by side; `total` is what the whole width stands for. No part is off by more than a character."""
    text = Text()
    for part, (start, end) in zip(parts, cells([part.size for part in parts], total, width), strict=True):
        text.append(part.glyph * (end - start), part.style)
    return text


def cells(sizes: Sequence[float], total: float, width: int) -> list[tuple[int, int]]:
    """Where each part begins and ends, in characters."""
    ends = [min(round(width * end / total), width) if total else 0 for end in accumulate(sizes)]
    return list(zip([0, *ends], ends, strict=False))


def labels(sizes: Mapping[str, float], total: float, width: int, glyphs: Glyphs) -> Text:
    """A line below a bar: each part's name where it begins, as far as there is room."""
    text = Text(style="dim")
    for name, (start, end) in zip(sizes, cells(list(sizes.values()), total, width), strict=True):
        room, shown = end - start, glyphs.mark + printable(name)
        if cell_len(shown) >= room:
            shown = set_cell_size(shown, max(room - 2, 0)) + glyphs.more
        text.append(set_cell_size(shown, room))
    return text


def line(values: Sequence[float | None], width: int, glyphs: Glyphs, top: float = 0.0) -> str:
    """The newest values as a line from zero to the highest of them, or to `top`."""
    shown = list(values)[-width:]
    highest = max([top, *(value for value in shown if value is not None)])
    points = [" " if value is None else _level(value, highest, glyphs.levels) for value in shown]
    return "".join(points).rjust(width)


def _level(value: float, highest: float, levels: str) -> str:
    return levels[round(value / highest * (len(levels) - 1))] if highest > 0 else levels[0]
