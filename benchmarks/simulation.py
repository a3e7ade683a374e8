"""`python benchmarks/simulation.py`: how many requests a minute the simulator runs on one core, as JSON.

The workload of MuxServe's paper (19 LLaMA models under a power law on 32 A100 GPUs, alpha 1.3), placed as MuxServe does
it; for spatial partitioning every LLM on GPUs of its own. Latencies are the roofline's. Counted is processor time.
"""

import argparse
import json
import time

from muxjax.placement.cost.roofline import Roofline
from muxjax.placement.gpus import KNOWN_GPUS
from muxjax.placement.solve import solve
from muxjax.serving.simulation.power_law import alone, make_load, placed, power_law_problem, simulate
from muxjax.serving.simulation.systems import SYSTEMS

TARGET = 50_000
ALPHA, SCALE = 1.3, 0.5


def main() -> None:
    """Measure every system and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=60.0, metavar="S", help="of the arrivals (default: 60)")
    options = parser.parse_args()
    costs = Roofline(KNOWN_GPUS["a100-80gb"])
    problem = power_law_problem(ALPHA, SCALE)
    shared = placed(solve(problem, costs, "published"))
    systems = {}
    for system in SYSTEMS:
        began = time.process_time()
        units = alone(problem) if system == "spatial" else shared
        requests = len(list(simulate(units, system, costs, make_load(problem, options.duration))))
        seconds = time.process_time() - began
        a_minute = round(60 * requests / seconds)
        systems[system] = {"requests": requests, "requests_a_minute": a_minute, "met": a_minute >= TARGET}
    print(json.dumps({"alpha": ALPHA, "scale": SCALE, "target": TARGET, "systems": systems}, indent=1))


if __name__ == "__main__":
    main()
