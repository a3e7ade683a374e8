"""What the kernels are meant to reach, case by case, and the worst case of each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from muxjax.bench.result import Budget

UPSTREAM, CUDNN, XLA = "jax paged_attention", "cuDNN", "xla"
_BANDWIDTH, _UPSTREAM_SPEED, _CUDNN_SPEED = "of copy bandwidth", "x upstream's speed", "x cuDNN's speed"
_PRODUCTS, _XLA_SPEED = "of XLA's dense products", "x XLA's speed"
_TARGETS: Mapping[str, Mapping[str, float]] = {
    "paged_decode": {_BANDWIDTH: 0.85, _UPSTREAM_SPEED: 1.2},
    "ragged_prefill": {_CUDNN_SPEED: 0.8},
    "pool_write": {_BANDWIDTH: 0.5},
    "grouped_matmul": {_BANDWIDTH: 0.7, _PRODUCTS: 0.3, _XLA_SPEED: 1.5},
}
"""The least of each."""
_MIN_BATCH, _MIN_CONTEXT = 32, 2048
_MIN_WRITE_US = 4.0  # less is the launch of a kernel more than its bytes

Cases = Sequence[Mapping[str, Any]]


class Mark(NamedTuple):
    """One figure of a case against a target: at least `limit` of `what`."""

    what: str
    measured: float
    limit: float


class Ceilings(NamedTuple):
    """What the device can do; None where that was not measured."""

    copy_gb_per_s: float | None
    tflop_per_s: float | None

    @classmethod
    def of(cls, cases: Cases) -> "Ceilings":
        """As measured."""
        found = {case["what"]: case for case in cases if "what" in case}
        return cls(found.get("copy", {}).get("gb_per_s"), found.get("matmul", {}).get("tflop_per_s"))

    def share(self, case: Mapping[str, Any]) -> float | None:
        """How much of what the device can do a case did."""
        if "tflop_per_s" in case:
            return None if self.tflop_per_s is None else case["tflop_per_s"] / self.tflop_per_s
        return None if self.copy_gb_per_s is None else case["gb_per_s"] / self.copy_gb_per_s


def marks(case: Mapping[str, Any], cases: Cases) -> Iterator[Mark]:
    """The targets that a timed case of ours has, as far as there is something to compare with."""
    share = Ceilings.of(cases).share(case)
    upstream, cudnn, xla = (fastest(cases, case, rival) for rival in (UPSTREAM, CUDNN, XLA))
    measured = {
        _BANDWIDTH: share if "gb_per_s" in case else None,
        _PRODUCTS: share if "tflop_per_s" in case else None,
        _XLA_SPEED: xla and xla / case["us"],
        _UPSTREAM_SPEED: upstream and upstream / case["us"],
        _CUDNN_SPEED: cudnn and cudnn / case["us"],
    }
    match case["operation"]:
        case "paged_decode":
            is_judged = case["batch"] >= _MIN_BATCH and case["context"] >= _MIN_CONTEXT
        case "pool_write":
            is_judged = share is not None and case["us"] * share >= _MIN_WRITE_US
        case "grouped_matmul":
            is_judged = case["tokens"] >= _MIN_BATCH
        case _:
            is_judged = True
    for what, limit in _TARGETS[case["operation"]].items() if is_judged else ():
        if (figure := measured[what]) is not None:
            yield Mark(what, figure, limit)


def fastest(cases: Cases, like: Mapping[str, Any], implementation: str) -> float | None:
    """Microseconds of an implementation's best setting for the operation and shape of a case."""
    times = [
        case["us"]
        for case in cases
        if "us" in case
        and case.get("implementation") == implementation
        and all(case[label] == like[label] for label in ("operation", "shape"))
    ]
    return min(times, default=None)


def budgets(cases: Cases) -> list[Budget]:
    """The worst case of each of our implementations and targets, and whether all that was checked is right."""
    found = []
    for operation, implementation in sorted(
        {(case["operation"], case["implementation"]) for case in cases if "check" in case}
    ):
        own = [
            case for case in cases if (case.get("operation"), case.get("implementation")) == (operation, implementation)
        ]
        name, checks = (
            f"{operation}, {implementation}",
            [case.get("is_right", False) for case in own if "check" in case],
        )
        found.append(Budget(f"{name}: share of shapes that are right", 1, sum(checks) / len(checks), True))
        reached = [mark for case in own if "us" in case and "setting" not in case for mark in marks(case, cases)]
        for what, limit in _TARGETS[operation].items():
            least = min((mark.measured for mark in reached if mark.what == what), default=None)
            found.append(Budget(f"{name}: {what}", limit, least, True))
    return found
