"""The kernels' figures as tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from muxjax.bench.kernels.targets import Cases, Ceilings, marks
from muxjax.bench.tables import Sheet, budget_sheet

_LABELS = (
    "what",
    "operation",
    "implementation",
    "check",
    "shape",
    "setting",
    "step",
    "pair",
    "mode",
    "served",
    "rate",
    "start",
)


def sheets(results: Mapping[str, Any]) -> Iterator[Sheet]:
    """Limits, correctness, times with targets, and what could not be measured."""
    cases = [{"section": name, **case} for name, part in results["parts"].items() for case in part["cases"]]
    yield ceiling_sheet(cases)
    yield correctness_sheet([case for case in cases if "check" in case])
    yield _times([case for case in cases if "us" in case and "operation" in case], cases)
    if failed := [case for case in cases if "error" in case]:
        yield failure_sheet(failed)
    yield budget_sheet(results["budgets"])


def ceiling_sheet(cases: Cases) -> Sheet:
    """Bandwidths, products and launches."""
    rows = []
    for case in cases:
        if case.get("what") in ("copy", "read", "matmul", "launch") and "us" in case:
            rate = next(
                (f"{case[key]:.0f} {unit}" for key, unit in _RATES.items() if key in case), f"{case['us']:.1f} us"
            )
            rows.append((case["what"], rate))
    return Sheet("What the device can do", 1, ("", "measured"), tuple(rows))


def correctness_sheet(cases: Cases) -> Sheet:
    """What was checked, and how far it was from what it should be."""
    columns = ("operation", "implementation", "shape", "largest error", "compared", "")
    rows = [
        (
            case.get("operation", "step"),
            case.get("implementation", ""),
            case["check"],
            f"{case['largest_error']:.2g}",
            f"{case['compared']}",
            "right" if case["is_right"] else "WRONG",
        )
        for case in cases
        if "is_right" in case
    ]
    return Sheet("Against the definitions in float64", 3, columns, tuple(rows))


def _times(timed: Cases, cases: Cases) -> Sheet:
    ceilings = Ceilings.of(cases)
    rows = []
    for case in sorted(timed, key=_order(timed)):
        share = ceilings.share(case)
        judged = list(marks(case, cases)) if _is_ours(case) else []
        rows.append(
            (
                case["operation"],
                case["shape"],
                " ".join(filter(None, (case["implementation"], _setting(case)))),
                f"{case['us']:.1f}",
                f"{case['us_least']:.1f}-{case['us_most']:.1f}",
                next(f"{case[key]:.0f} {unit}" for key, unit in _RATES.items() if key in case),
                ("" if share is None else f"{share:.0%}") + ("" if case.get("is_cold", True) else " (in cache)"),
                "; ".join(f"{mark.measured:.2f} {mark.what}, at least {mark.limit:g}" for mark in judged),
                "" if not judged else "pass" if all(mark.measured >= mark.limit for mark in judged) else "MISS",
            )
        )
    columns = ("operation", "shape", "implementation", "us", "rounds", "rate", "of ceiling", "target", "")
    return Sheet("Kernels", 3, columns, tuple(rows))


def failure_sheet(cases: Cases) -> Sheet:
    """What has no figures, and why."""
    rows = tuple(
        (case["section"], ", ".join(str(case[label]) for label in _LABELS if label in case), case["error"])
        for case in cases
    )
    return Sheet("Not measured", 2, ("section", "case", "reason"), rows)


def _order(timed: Cases) -> Any:
    """By operation and shape in the order of their appearance, the fastest first."""
    shapes: dict[tuple[str, str], int] = {}
    for case in timed:
        shapes.setdefault((case["operation"], case["shape"]), len(shapes))
    operations: Sequence[str] = list(dict.fromkeys(case["operation"] for case in timed))
    return lambda case: (
        operations.index(case["operation"]), shapes[case["operation"], case["shape"]], case["us"]
    )  # fmt: skip


def _is_ours(case: Mapping[str, Any]) -> bool:
    return case["implementation"] in ("mosaic", "triton")


def _setting(case: Mapping[str, Any]) -> str:
    return case.get("setting", "")


_RATES = {"gb_per_s": "GB/s", "tflop_per_s": "TFLOP/s"}
