"""Checks of single values that came from outside: of type, finiteness and range, naming the field that fails."""

import operator
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from muxjax.serving.errors import InvalidRequest

MAX_DEPTH = 32
"""Of JSON that a chat template is to read, such as a tool's schema."""


def number(field: str, value: object, low: float, high: float) -> float:
    """A finite number between low and high, both included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(field, f"must be a number, not {shown(value)}")
    if not low <= value <= high:  # false for NaN as well
        raise InvalidRequest(field, f"is {shown(value)}; it must lie between {low:g} and {high:g}")
    return float(value)


def integer(field: str, value: object, low: int, high: int | None = None) -> int:
    """A whole number from low to high, both included; high None is unbounded."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InvalidRequest(field, f"must be a whole number, not {shown(value)}")
    whole = operator.index(value)
    if whole < low or (high is not None and whole > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidRequest(field, f"is {shown(whole)}; it must be {bounds}")
    return whole


def boolean(field: str, value: object) -> bool:
    """True or False, and nothing that merely resembles them."""
    if not isinstance(value, bool):
        raise InvalidRequest(field, f"must be true or false, not {shown(value)}")
    return value


def bounded_list(field: str, value: object, most: int) -> Sequence[object]:
    """A list or tuple of at most so many entries."""
    if not _is_list(value):
        raise InvalidRequest(field, f"must be a list, not {shown(value)}")
    if len(value) > most:
        raise InvalidRequest(field, f"has {len(value)} entries; at most {most} are taken")
    return value


def token_ids(field: str, values: Iterable[object], vocab_size: int) -> tuple[int, ...]:
    """Token ids, each in 0 .. vocab_size - 1."""
    return tuple(integer(field, value, 0, vocab_size - 1) for value in values)


def depth(field: str, value: object) -> None:
    """Nothing that is nested too deep for those who walk through it."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise InvalidRequest(field, f"is nested deeper than {MAX_DEPTH} levels")


def shown(value: object) -> str:
    """A value as an error message may quote it: short, whatever was sent."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
