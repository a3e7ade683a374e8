"""`python benchmarks/against_muxserve.py`: what our changes bring over MuxServe as published, simulated, as JSON.

MuxServe's power-law workload (19 LLaMA models, 32 A100 GPUs), alpha by alpha: its own placement and the mended one,
under its processes and under muxjax's packed steps. For each, the throughput at rate scale 1 (requests/s that ended
while requests arrived), and the requests/s at which 99% still end within 8 times their latency alone. Latencies are the
roofline's. Arrivals must last several times 8 latencies alone, or queues that grow without end go unseen.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from muxjax.placement.cost.roofline import Roofline
from muxjax.placement.gpus import KNOWN_GPUS
from muxjax.placement.solve import solve
from muxjax.serving.simulation.metrics import attainment
from muxjax.serving.simulation.power_law import placed, power_law_problem, seconds_alone, simulate

ALPHAS = (0.7, 0.9, 1.3, 1.7, 2.1)
VARIANTS = {
    "muxserve": ("published", "muxserve"),
    "mended_placement": ("best", "muxserve"),
    "packed_steps": ("published", "muxjax"),
    "both": ("best", "muxjax"),
}
SLO_SCALE, ATTAINED = 8.0, 0.99
_RATE_SCALES = [0.02 * 1.15**step for step in range(30)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=120.0, metavar="S", help="of the arrivals (default: 120)")
    options = parser.parse_args()
    cases = [(alpha, name, options.duration) for alpha in ALPHAS for name in VARIANTS]
    with ProcessPoolExecutor() as pool:
        figures = list(pool.map(_measure, cases))
    alphas: dict[str, Any] = {}
    for (alpha, name, _), found in zip(cases, figures, strict=True):
        variants = alphas.setdefault(str(alpha), {})
        variants[name] = found | {
            f"{figure}_ratio": round(found[figure] / variants.get("muxserve", found)[figure], 3) for figure in found
        }
    print(json.dumps({"duration": options.duration, "slo_scale": SLO_SCALE, "alphas": alphas}, indent=1))


def _measure(case: tuple[float, str, float]) -> dict[str, float]:
    alpha, name, duration = case
    search, system = VARIANTS[name]
    costs = Roofline(KNOWN_GPUS["a100-80gb"])
    problem = power_law_problem(alpha)
    units = placed(solve(problem, costs, search))
    asked = sum(llm.rate for llm in problem.llms)

    def attained(scale: float) -> bool:
        outcomes = simulate(units, system, costs, scale, duration)
        limits = [SLO_SCALE * seconds_alone(outcome, problem, costs) for outcome in outcomes]
        return attainment(outcomes, limits) >= ATTAINED

    low, high = 0, len(_RATE_SCALES)  # of the scales below `low` the last one is attained
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if attained(_RATE_SCALES[middle]) else (low, middle)
    ended = sum(outcome.finished <= duration for outcome in simulate(units, system, costs, 1.0, duration))
    return {
        "throughput": round(ended / duration, 2),
        "rate_within_slo": round(asked * _RATE_SCALES[low - 1], 2) if low else 0.0,
    }


if __name__ == "__main__":
    main()
