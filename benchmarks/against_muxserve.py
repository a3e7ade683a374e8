"""`python benchmarks/against_muxserve.py`: what our changes bring over MuxServe as published, simulated, as JSON.

MuxServe's power-law workload (19 LLaMA models, 32 A100 GPUs), alpha by alpha: its own placement and the mended one,
under its processes with its ADBS and with ours, and under muxjax's packed steps. For each, and each of several seeds,
the throughput at rate scale 1 (requests/s that ended while requests arrived), and the requests/s at which 99% still end
within 8 times their latency alone: the last step that holds of a ladder of rates. Everyone places the LLMs for the very
rates that come. Latencies are the roofline's.
Arrivals must last several times 8 latencies alone, or queues that grow without end go unseen. Progress goes to standard
error.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

from muxjax.placement.cost.roofline import Roofline
from muxjax.placement.gpus import KNOWN_GPUS
from muxjax.placement.solve import solve
from muxjax.placement.workload import Request
from muxjax.serving.simulation.metrics import latency
from muxjax.serving.simulation.power_law import latencies_alone, make_load, placed, power_law_problem, simulate
from muxjax.serving.simulation.unit_simulation import Outcome

ALPHAS = (0.7, 0.9, 1.3, 1.7, 2.1)
VARIANTS = {
    "muxserve": ("published", "muxserve"),
    "mended_placement": ("best", "muxserve"),
    "our_adbs": ("published", "our_adbs"),
    "mended_placement_our_adbs": ("best", "our_adbs"),
    "packed_steps": ("published", "muxjax"),
    "mended_placement_packed_steps": ("best", "muxjax"),
}
SLO_SCALE, ATTAINED = 8.0, 0.99
_RATE_SCALES = [0.1 * 1.1**step for step in range(40)]
_FIRST_STEP = 20  # where the search on the ladder begins
_FIGURES = ("throughput", "rate_within_slo")

Case = tuple[float, str]
"""Alpha and variant."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=120.0, metavar="S", help="of the arrivals (default: 120)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many (default: 3)")
    options = parser.parse_args()
    cases = list(product(ALPHAS, VARIANTS))
    starts = dict.fromkeys(cases, _FIRST_STEP)
    results: dict[Case, dict[str, list[float]]] = {case: {name: [] for name in _FIGURES} for case in cases}
    with ProcessPoolExecutor() as pool:
        for seed in range(options.seeds):
            jobs = {case: pool.submit(_measure, case, options.duration, seed, max(starts[case], 0)) for case in cases}
            for case, job in jobs.items():
                starts[case], figures = job.result()
                print(f"seed {seed}", *case, figures, file=sys.stderr, flush=True)
                for name, figure in figures.items():
                    results[case][name].append(figure)
    alphas: dict[str, Any] = {str(alpha): {} for alpha in ALPHAS}
    for (alpha, variant), found in results.items():
        ratios = {f"{name}_ratio": _ratio(found[name], results[alpha, "muxserve"][name]) for name in _FIGURES}
        alphas[str(alpha)][variant] = found | ratios
    print(json.dumps({"duration": options.duration, "slo_scale": SLO_SCALE, "alphas": alphas}, indent=1))


def _ratio(by_seed: list[float], published: list[float]) -> dict[str, float]:
    """Of the sums over the seeds, and the least and the largest of one seed."""
    each = [ours / theirs for ours, theirs in zip(by_seed, published, strict=True)]
    return {
        "all": round(sum(by_seed) / sum(published), 3),
        "least": round(min(each), 3),
        "largest": round(max(each), 3),
    }


def _measure(case: Case, duration: float, seed: int, start: int) -> tuple[int, dict[str, float]]:
    """The last step of the ladder that holds, looked for from `start` on, and both figures."""
    alpha, variant = case
    search, system = VARIANTS[variant]
    costs = Roofline(KNOWN_GPUS["a100-80gb"])
    alone = latencies_alone(power_law_problem(alpha), costs)

    def outcomes(scale: float, requests: Sequence[Request], until: float) -> Iterator[Outcome]:
        units = placed(solve(power_law_problem(alpha, scale), costs, search))
        return simulate(units, system, costs, requests, until)

    def attained(step: int) -> bool:
        scale = _RATE_SCALES[step]
        requests = make_load(power_law_problem(alpha, scale), duration, seed)
        spare = (1 - ATTAINED) * len(requests)
        for outcome in outcomes(scale, requests, duration + SLO_SCALE * max(map(alone, requests))):
            spare -= latency(outcome) > SLO_SCALE * alone(outcome.request)
            if spare < 0:
                return False
        return True

    step = _last_attained(attained, start)
    full = power_law_problem(alpha)
    ended = sum(outcome.finished <= duration for outcome in outcomes(1.0, make_load(full, duration, seed), duration))
    asked = sum(llm.rate for llm in full.llms)
    return step, {
        "throughput": round(ended / duration, 2),
        "rate_within_slo": round(asked * _RATE_SCALES[step], 2) if step >= 0 else 0.0,
    }


def _last_attained(attained: Callable[[int], bool], start: int) -> int:
    """The last step of the ladder that holds, -1 for none: strides from `start` grow until it lies between two."""
    low, high, step, stride = -1, len(_RATE_SCALES), start, 1
    while high - low > 1:
        if attained(step):
            low, step = step, step + stride
        else:
            high, step = step, step - stride
        stride *= 2
        if not low < step < high or (low >= 0 and high < len(_RATE_SCALES)):
            step = (low + high) // 2
    return low


if __name__ == "__main__":
    main()
