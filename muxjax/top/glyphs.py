"""The characters that bars and lines are drawn with."""

from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """They differ without colours too.

    Attributes:
        full: memory that is held as due; prefill.
        borrowed: memory that is held beyond that.
        half: decode.
        unused: a quota that is not used.
        empty: nobody's.
        mark: where an LLM's part begins.
        levels: of a line's points, lowest first.
        at_most: before what was promised.
        more: after a text that was cut.
    """

    full: str
    borrowed: str
    half: str
    unused: str
    empty: str
    mark: str
    levels: str
    at_most: str
    more: str


UNICODE = Glyphs("█", "▚", "▒", "░", "·", "╵", "▁▂▃▄▅▆▇█", "≤", "…")
ASCII = Glyphs("#", "%", "=", ".", " ", "'", "_.-=+*%#", "<=", "~")


def fitting(encoding: str) -> Glyphs:
    """Those that an output of this encoding can show."""
    try:
        "".join(astuple(UNICODE)).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return UNICODE
