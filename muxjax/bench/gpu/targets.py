"""What steps and units are meant to reach."""

from collections.abc import Mapping, Sequence
from typing import Any

from muxjax.bench.kernels.targets import Ceilings
from muxjax.bench.result import Budget

FLOOR, MATMUL_SHARE, PACKED_SPEED, GOODPUT = 1.25, 0.5, 1.15, 1.5

Cases = Sequence[Mapping[str, Any]]


def of_floor(case: Mapping[str, Any], ceilings: Ceilings) -> float | None:
    """How many times the time that a decode's bytes take, or which share of the products that the device can do."""
    if "bytes" in case and ceilings.copy_gb_per_s:
        return case["us"] / (case["bytes"] / ceilings.copy_gb_per_s / 1e3)
    if "operations" in case and ceilings.tflop_per_s:
        return case["operations"] / case["us"] / 1e6 / ceilings.tflop_per_s
    return None


def speedup(case: Mapping[str, Any], cases: Cases) -> float | None:
    """How many times as fast a pair is as one job after the other."""
    own = [
        other["us"]
        for other in cases
        if other.get("pair") == case["pair"] and other["mode"] == "interleaved" and "us" in other
    ]
    return own[0] / case["us"] if own else None


def goodput_ratio(cases: Cases) -> float | None:
    """Requests within their objectives a second, together against in time slices, each at its best rate."""
    together, slices = (
        max((case["goodput"] for case in cases if "goodput" in case and case["served"].startswith(how)), default=None)
        for how in ("together", "in time slices")
    )
    return together / slices if together and slices else None


def budgets(cases: Cases) -> list[Budget]:
    """The first decode and prefill, the best mode of the worst pair, and the load."""
    ceilings = Ceilings.of(cases)
    timed = [case for case in cases if "us" in case]
    decode, prefill = (
        next((of_floor(case, ceilings) for case in timed if case.get("kind") == kind), None)
        for kind in ("decode", "prefill")
    )
    packed = [
        (case["pair"], speedup(case, cases) or 0) for case in timed if "pair" in case and case["mode"] != "interleaved"
    ]
    best = {pair: max(ratio for other, ratio in packed if other == pair) for pair, _ in packed}
    checks = [case.get("is_right", False) for case in cases if "check" in case]
    return [
        Budget("packed = interleaved = alone", 1, sum(checks) / len(checks) if checks else None, True),
        Budget("decode step, times its byte floor", FLOOR, decode, False),
        Budget("prefill, of the matmul ceiling", MATMUL_SHARE, prefill, True),
        Budget("packed, times interleaved, the worst pair", PACKED_SPEED, min(best.values(), default=None), True),
        Budget("together, times time slices' requests within SLO", GOODPUT, goodput_ratio(cases), True),
    ]
