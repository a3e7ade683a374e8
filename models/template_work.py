"""What a rendering may spend, and what its operations cost.

Work has two bounds. Units pay for all that is made, before it is made where an operation could make much from little;
so they bound memory. Seconds of the rendering thread's processor bound what only reads.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_CHARACTERS_IN_CONTAINERS = 8  # cost a unit: containers refer to texts, which are paid for already
_SECONDS_BETWEEN_LOOKS = 0.02
_PART = 4  # units, of a container
_PARTS_AT_ONCE = 1000  # are walked through before they are paid for
_WITH_PARTS = (str, list, tuple, set, frozenset, Mapping)
_HUGE_FIELD = re.compile(r"%[-+ #0_^(\w)]*?\.?(\d{4,}|\*)|\{[^{}]*:[^{}]*(\d{4,}|\{)")


class TooMuchWork(Exception):
    """A template did more than it may."""


@dataclass
class _Budget:
    units: int
    deadline: float  # by the thread's processor time
    next_look: float = 0.0  # at that time, which is slow to read, by the wall clock


_budget: ContextVar[_Budget] = ContextVar("budget")


@contextmanager
def allowed_work(units: int, seconds: float) -> Iterator[None]:
    """What is rendered inside may do so much work, and raises TooMuchWork when it wants to do more."""
    token = _budget.set(_Budget(units, time.thread_time() + seconds))
    try:
        yield
    finally:
        _budget.reset(token)


def spend(units: int) -> None:
    """Do some of the work that the rendering may do; outside of one, as when constants are folded, it is free."""
    budget = _budget.get(None)
    if budget is not None:
        budget.units -= units
        now = time.monotonic()
        late = False
        if now > budget.next_look:
            budget.next_look = now + _SECONDS_BETWEEN_LOOKS
            late = time.thread_time() > budget.deadline
        if budget.units < 0 or late:
            raise TooMuchWork


def paid[T](value: T) -> T:
    """The value, paid for by its size: of a container, with all that it holds, for that is what its text would show."""
    if isinstance(value, str):
        spend(len(value))
    elif isinstance(value, list | tuple | dict):
        weigh(value)
    return value


def paid_copy[T](value: T) -> T:
    """A part of a container that is paid for, by its own length."""
    if isinstance(value, str | list | tuple):
        spend(len(value))
    return value


def weigh(value: Any) -> int:
    """Spend, and return, some units for every part of a value, as often as it occurs."""
    total, unpaid, rest = 1, 0, [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            cost = len(item) // _CHARACTERS_IN_CONTAINERS
        else:
            parts = _parts(item)
            cost = _PART * len(parts)
            rest.extend(part for part in parts if isinstance(part, _WITH_PARTS))
        total += cost
        unpaid += cost
        if unpaid > _PARTS_AT_ONCE or not rest:
            spend(unpaid)
            unpaid = 0
    return total


def _parts(value: Any) -> Collection[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list | tuple | set | frozenset) else ()


def spend_before(operation: str, value: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Pay for the most that a filter or method can make of its value and arguments."""
    bound = _BOUNDS.get(operation)
    if bound is not None:
        bound(value, [*arguments, *named.values()])


def spend_before_format(template: Any, values: Any) -> None:
    """Pay for what `template % values`, or `template.format`, can make; widths and precisions are small ones."""
    if isinstance(template, str):
        if _HUGE_FIELD.search(template):
            raise TooMuchWork
        spend((template.count("%") + template.count("{")) * _CHARACTERS_IN_CONTAINERS * weigh(values))


def _widest(arguments: Sequence[Any]) -> int:
    """The largest number, or length of a text, among arguments."""
    sizes = [0]
    for value in arguments:
        if isinstance(value, list | tuple):
            sizes.append(_widest(value))
        elif isinstance(value, int | str):
            sizes.append(len(value) if isinstance(value, str) else abs(value))
    return max(sizes)


def _replaced(value: Any, arguments: Sequence[Any]) -> None:
    text, (old, new) = str(value), map(str, arguments[:2])
    spend((text.count(old) if old else len(text) + 1) * len(new))


def spend_before_join(separator: Any, items: Sequence[Any]) -> None:
    """Pay for the text of all items with the separator between them."""
    sizes = sum(len(item) if isinstance(item, str) else _CHARACTERS_IN_CONTAINERS * weigh(item) for item in items)
    spend(sizes + len(str(separator)) * len(items))


def _rounded(value: Any, arguments: Sequence[Any]) -> None:
    if _widest(arguments) > 64:  # 10 ** precision
        raise TooMuchWork


_BOUNDS: Mapping[str, Callable[[Any, Sequence[Any]], None]] = {
    **dict.fromkeys(
        ("center", "ljust", "rjust", "zfill", "batch", "slice"), lambda value, given: spend(_widest(given))
    ),
    "indent": lambda value, given: spend((str(value).count("\n") + 1) * _widest(given)),
    "tojson": lambda value, given: spend(weigh(value) * _widest(given)),
    "replace": _replaced,
    "round": _rounded,
    "format": spend_before_format,
    "format_map": spend_before_format,
    "strftime_now": lambda value, given: spend_before_format(value, [value]),
}
