"""Stop strings are found wherever the pieces break, and no part of one is ever shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.serving.stop import StopStrings


def feed(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, bool]:
    checker = StopStrings(stops)
    shown = ""
    for piece in pieces:
        text, stopped = checker.push(piece)
        shown += text
        if stopped:
            return shown, True
    return shown + checker.flush(), False


@given(
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    pieces=st.lists(st.text("abc", max_size=3), max_size=12),
)
def test_shows_exactly_what_comes_before_the_first_stop(stops, pieces):
    text = "".join(pieces)
    shown, stopped = feed(tuple(stops), pieces)
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    assert stopped == bool(ends)
    if not stopped:
        assert shown == text
    else:
        # Piece by piece, the stop that is complete first wins; of those in one piece, the one that starts first.
        assert text.startswith(shown)
        assert any(text[len(shown) :].startswith(stop) for stop in stops)
        assert not any(stop in shown for stop in stops)


def test_holds_back_what_may_become_a_stop():
    checker = StopStrings(("END",))
    assert checker.push("the E") == ("the ", False)
    assert checker.push("N") == ("", False)
    assert checker.push("E") == ("EN", False)
    assert checker.flush() == "E"


@pytest.mark.parametrize("pieces", [["xEND"], ["xE", "ND"], ["x", "E", "N", "D"]])
def test_text_before_the_stop_is_shown_once(pieces):
    assert feed(("END",), [*pieces, "more"]) == ("x", True)


def test_complete_stops_pass_while_stopping_is_not_allowed():
    checker = StopStrings(("END",))
    assert checker.push("a END b", can_stop=False) == ("a END b", False)
    assert checker.push("EN", can_stop=False) == ("", False)
    assert checker.push("D") == ("", True)
