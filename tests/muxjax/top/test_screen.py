"""What `python -m muxjax.top` shows of a moment, line by line."""

from dataclasses import replace

import pytest
from rich.console import Console

from muxjax.serving.history import History
from muxjax.serving.overview import Overview
from muxjax.serving.statistics import Percentiles
from muxjax.serving.unit import UnitStatus
from muxjax.top.bars import Part, bar, cells, labels, line
from muxjax.top.figures import percent, percentiles, rate, seconds
from muxjax.top.glyphs import ASCII, UNICODE, fitting
from muxjax.top.screen import screen
from muxjax.top.source import Moment
from tests.serving.frontends.ui.units import BUSY, COMPILING, FAILED, IDLE, many, unit_status


def shown(unit: UnitStatus, width: int, height: int | None = None, *, is_live: bool = True) -> list[str]:
    """The lines, without colours, after a minute in which nothing changed."""
    history = History()
    for second in range(60):
        history.add(unit, float(second))
    moment = Moment(Overview("1.2.3", 5430.0, unit, history.llms), is_live)
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(screen(moment, "127.0.0.1:50051", width, height, UNICODE))
    return [line.rstrip() for line in capture.get().splitlines()]


def row(lines: list[str], llm: str) -> list[str]:
    """The two lines of an LLM."""
    index = next(i for i, line in enumerate(lines) if line.startswith(llm))
    return [" ".join(line.split()) for line in lines[index : index + 2]]


def test_80_columns_hold_every_figure() -> None:
    lines = shown(unit_status(BUSY, IDLE, FAILED), 80)
    assert lines[:2] == [
        "muxjax 1.2.3 at 127.0.0.1:50051  2 ready, 1 failed                 up 1 h 30 min",
        "123 tokens/s, 3 running, 7 waiting, lowest SLO 99.9%, fairness gap 0.12",
    ]
    assert row(lines, "busy") == [
        "busy 3, 7 550/600 25%, 75% 123 first 89/161/357ms 99.9%",
        "ready, 1 err ▆▆▆▆▆▆ borrows 100 ██▒▒▒▒ ▁▁▁▁▁▁ each 8.5/9.2/10.0ms",
    ]
    assert row(lines, "idle") == [
        "idle 0, 0 0/300 0%, 0% 0 first - -",
        "ready ▁▁▁▁▁▁ lends 100 ······ ▁▁▁▁▁▁ each - none",
    ]
    assert lines[-1] == "broken: weights/ is truncated"
    assert max(map(len, lines)) <= 80


def test_an_llm_that_compiles_says_how_far_it_is() -> None:
    assert row(shown(unit_status(BUSY, COMPILING), 80), "soon")[1].startswith("compile 1/3 ")


def test_a_wide_terminal_has_graphs_and_targets_of_both_latencies() -> None:
    lines = shown(unit_status(BUSY, IDLE), 130)
    assert row(lines, "busy") == [
        "busy 3, 7 550/600 25%, 75% 123 89/161/357ms 8.5/9.2/10.0ms 99.9%",
        "ready, 1 err ▆▆▆▆▆▆▆▆▆ borrows 100 ██▒▒▒▒▒▒▒ ▁▁▁▁▁▁▁▁▁ █████████ >150ms █████████ ≤10ms",
    ]


def test_memory_is_divided_by_quota() -> None:
    lines = shown(unit_status(BUSY, IDLE), 100)
    title = next(i for i, line in enumerate(lines) if line.startswith("memory"))
    assert lines[title].startswith("memory   550 of 1,000 head blocks, 55%")
    assert lines[title].endswith("█ held  ▚ borrowed  ░ quota not used")
    assert lines[title + 1] == "█" * 50 + "▚" * 5 + "░" * 5 + "░" * 30 + "·" * 10
    assert lines[title + 2] == "╵busy" + " " * 55 + "╵idle"


def test_quotas_that_promise_too_much_leave_what_is_held() -> None:
    lines = shown(unit_status(replace(BUSY, blocks_quota=900), replace(IDLE, blocks_quota=900, blocks_used=200)), 100)
    title = next(i for i, line in enumerate(lines) if line.startswith("memory"))
    assert lines[title + 1] == "█" * 50 + "▚" * 5 + "█" * 20 + "·" * 25


def test_memory_of_llms_that_one_may_not_see_is_not_free() -> None:
    lines = shown(replace(unit_status(IDLE), blocks_free=600), 100)
    assert "░" * 30 + "█" * 40 + "·" * 30 in lines


def test_compute_is_divided_among_prefills_decodes_and_idleness() -> None:
    lines = shown(unit_status(BUSY, IDLE), 80)
    title = next(i for i, line in enumerate(lines) if line.startswith("compute"))
    assert lines[title].startswith("compute  busy 50% of the last 10 s, 4,321 steps")
    assert lines[title + 1] == "█" * 10 + "▒" * 30 + "·" * 40


@pytest.mark.parametrize("height", [24, 40])
def test_no_more_llms_than_there_is_room_for(height: int) -> None:
    lines = shown(many(24), 80, height)
    assert len(lines) <= height
    rows = sum(line.startswith("an-org") for line in lines)
    assert lines[-1] == f"{24 - rows} more LLMs: enlarge the window to see them"
    assert rows == (height - 13) // 2


def test_it_says_that_the_connection_is_lost_and_that_nothing_ran() -> None:
    assert shown(unit_status(BUSY), 80, is_live=False)[0].endswith("  connection lost, trying again")
    assert shown(unit_status(IDLE, steps=0, busy=0.0), 80)[-1] == "Nothing has run yet."


def test_a_server_without_llms_or_pool_is_shown_too() -> None:
    assert "0 of 0 head blocks, 0%" in shown(UnitStatus((), 0, 0, 0, 0.0), 80)[3]


@pytest.mark.parametrize("name", ["[red]x[/]", "a\x1b[2Jb", "名前" * 20])
def test_names_are_shown_as_they_are_and_give_the_terminal_no_orders(name: str) -> None:
    lines = shown(unit_status(replace(BUSY, name=name), replace(FAILED, name=name + "2", error=name)), 80)
    assert not any("\x1b" in line for line in lines)
    assert any("[red]x[/]" in line for line in lines) == (name == "[red]x[/]")


def test_bars_round_to_whole_characters_and_stay_as_wide_as_they_are() -> None:
    assert cells([1, 1, 1], 3, 10) == [(0, 3), (3, 7), (7, 10)]
    assert cells([5, 5], 5, 10) == [(0, 10), (10, 10)]
    assert cells([0, 0], 0, 10) == [(0, 0), (0, 0)]
    assert bar([Part(1, "a", ""), Part(2, "b", "")], 4, 8).plain == "aabbbb"


def test_labels_are_cut_where_their_part_ends() -> None:
    assert labels({"abcdef": 5, "x": 3, "lost": 1}, 10, 10, ASCII).plain == "'ab~ 'x ~"


def test_lines_go_from_zero_to_the_highest_value_with_gaps() -> None:
    assert line([0, 2, None, 7], 6, ASCII) == "  _- #"
    assert line([1, 2, 3], 2, UNICODE) == "▆█"
    assert line([0, 0], 2, UNICODE, top=1) == "▁▁"


def test_figures_are_short_and_never_promise_too_much() -> None:
    assert [percent(share) for share in (None, 0, 0.004, 0.5, 0.9996, 1)] == ["-", "0%", "0.4%", "50%", "99.9%", "100%"]
    assert [rate(value) for value in (0, 0.123, 12.34, 1234.5)] == ["0", "0.123", "12.3", "1,234"]
    assert [seconds(value) for value in (0.0005, 0.2, 1.5)] == ["0.5ms", "200ms", "1.5s"]
    latencies = (None, Percentiles(0.001, 0.002, 0.003), Percentiles(0.5, 1, 12))
    assert [percentiles(value) for value in latencies] == ["-", "1.0/2.0/3.0ms", "0.50/1.00/12.00s"]


def test_terminals_without_unicode_get_ascii() -> None:
    assert fitting("utf-8") is UNICODE
    assert fitting("ascii") is fitting("latin-1") is ASCII


def test_the_first_look_has_one_point_of_history_and_is_ascii_where_it_must_be() -> None:
    history = History()
    history.add(unit_status(IDLE), 0.0)
    moment = Moment(Overview("1.2.3", 1.0, unit_status(IDLE), history.llms), is_live=True)
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(screen(moment, "localhost:1", 120, 40, ASCII))
    assert capture.get().isascii()
