"""The figures of steps and units as tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from muxjax.bench.gpu.targets import Cases, of_floor, speedup
from muxjax.bench.kernels.tables import ceiling_sheet, correctness_sheet, failure_sheet
from muxjax.bench.kernels.targets import Ceilings
from muxjax.bench.tables import Sheet, budget_sheet


def sheets(results: Mapping[str, Any]) -> Iterator[Sheet]:
    """Limits, correctness, steps, pairs, the unit, and what could not be measured."""
    cases = [{"section": name, **case} for name, part in results["parts"].items() for case in part["cases"]]
    yield ceiling_sheet(cases)
    yield correctness_sheet([case for case in cases if "check" in case])
    yield _steps(cases)
    yield _pairs(cases)
    yield _served([case for case in cases if "tokens_per_second" in case])
    yield _starts([case for case in cases if "start" in case and "seconds" in case])
    if failed := [case for case in cases if "error" in case]:
        yield failure_sheet(failed)
    yield budget_sheet(results["budgets"])


def _steps(cases: Cases) -> Sheet:
    ceilings = Ceilings.of(cases)
    rows = []
    for case in cases:
        if "step" in case and "us" in case:
            share = of_floor(case, ceilings)
            words = "x its byte floor" if case["kind"] == "decode" else "of the matmul ceiling"
            shown = "" if share is None else f"{share:.2f} {words}"
            rows.append((case["step"], f"{case['us'] / 1e3:.2f}", shown, f"{case['temp_mib']:.0f}"))
    return Sheet("Steps of one LLM", 1, ("step", "ms", "", "temporary MiB"), tuple(rows))


def _pairs(cases: Cases) -> Sheet:
    rows = []
    for case in cases:
        if "pair" in case and "us" in case:
            ratio = speedup(case, cases)
            shown = "" if ratio is None else f"{ratio:.2f}x"
            rows.append((case["pair"], case["mode"], f"{case['us'] / 1e3:.2f}", shown, f"{case['temp_mib']:.0f}"))
    return Sheet("Two jobs", 2, ("jobs", "mode", "ms", "speed", "temporary MiB"), tuple(rows))


def _served(cases: Cases) -> Sheet:
    rows = tuple(
        (
            case["served"],
            f"{case['rate']:g}" if "rate" in case else "",
            f"{case['requests']}",
            *(f"{case[name]:{form}}" if name in case else "" for name, form in _SERVED.items()),
        )
        for case in cases
    )
    columns = ("way", "requests/s", "requests", "within SLO", "within SLO/s", "median s", "p99 s", "tokens/s")
    return Sheet("Several LLMs on one GPU", 1, columns, rows)


_SERVED = {"within_slo": ".0%", "goodput": ".2f", "p50_s": ".2f", "p99_s": ".2f", "tokens_per_second": ".0f"}


def _starts(cases: Cases) -> Sheet:
    rows = tuple((case["start"], f"{case['seconds']:.1f}") for case in cases)
    return Sheet("Seconds until the unit's LLMs can be asked", 1, ("start with", "s"), rows)
