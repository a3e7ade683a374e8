"""Figures as people read them. One that is not there is a dash."""

from muxjax.serving.statistics import Percentiles

NONE = "-"


def printable(text: str) -> str:
    """A name or an error without characters that a terminal would take for orders."""
    return "".join(character if character.isprintable() else "?" for character in text)


def percent(share: float | None) -> str:
    """A share of one. 99.96% is not shown as all."""
    if share is None:
        return NONE
    points = share * 100
    if 99 < points < 100:
        return f"{int(points * 10) / 10:g}%"
    return f"{points:.0f}%" if points >= 10 else f"{points:.1f}".removesuffix(".0") + "%"


def rate(value: float) -> str:
    """Something per second, in three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """A time, in the unit that fits."""
    return f"{value:.3g}s" if value >= 1 else f"{value * 1000:.3g}ms"


def percentiles(values: Percentiles | None) -> str:
    """All three, in the unit that fits the longest."""
    if values is None:
        return NONE
    longest = max(values.p50, values.p90, values.p99)
    factor, unit = (1.0, "s") if longest >= 1 else (1000.0, "ms")
    digits = 2 if unit == "s" else 1 if longest < 0.01 else 0
    shown = "/".join(f"{value * factor:.{digits}f}" for value in (values.p50, values.p90, values.p99))
    return f"{shown}{unit}"
