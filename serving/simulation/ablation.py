"""The comparison of scheduling policies in MuxServe's paper: two LLMs on one unit."""

import json
from collections.abc import Mapping
from pathlib import Path

from muxjax.placement.cost.cost_model import CostModel
from muxjax.placement.errors import PlacementError
from muxjax.placement.known_models import find_model
from muxjax.placement.workload import Lengths, make_requests
from muxjax.serving.simulation.latencies import ServedModel
from muxjax.serving.simulation.metrics import measure
from muxjax.serving.simulation.systems import SYSTEMS, UnitLLM, make_unit

POLICIES = {"FCFS": "temporal", "Round-Robin": "round_robin", "ADBS": "muxserve", "muxjax": "muxjax"}
"""What the paper calls them, and the systems that have them: its code runs FCFS with temporal multiplexing only."""
_GPUS, _GPU_GB = 4, 80.0  # the paper does not say how many; fewer do not hold the weights
_LLM_GB = 7.6  # what an LLM's processes take of each GPU beside weights and KV
_REQUESTS = {"llama-65b": 127, "llama-30b": 1000}
"""In proportion to the rates, as its code makes them. It names 200 requests and 1,000 of the more popular LLM; with 200
the arrivals end after 25 s, and no policy comes to the 7.5 requests/s that were measured.
"""
_LLMS = {
    "llama-65b": (1.0, Lengths(778, 251, variation=0.3), ServedModel(find_model("llama-65b"), _GPUS, 30, 100)),
    "llama-30b": (8.0, Lengths(128, 126, variation=0.3), ServedModel(find_model("llama-30b"), _GPUS, 60, 100)),
}


def read_ablation(folder: Path) -> dict[str, float]:
    """Measured requests/s of both LLMs by policy, from `ablation.json`. Raises PlacementError."""
    path = folder / "ablation.json"
    try:
        total = json.loads(path.read_text(encoding="utf-8"))["adbs_ablation"]["total_tpt"]
        return {policy: float(throughput) for policy, throughput in total.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlacementError(f"{path}: needs adbs_ablation.total_tpt, requests/s by policy: {error!r}") from error


def simulate_policies(costs: CostModel, seed: int) -> Mapping[str, float]:
    """Requests/s of both LLMs by policy, as the paper measured them: finished over the last one's end, LLM by LLM."""
    requests = make_requests(
        {name: rate for name, (rate, _, _) in _LLMS.items()},
        {name: lengths for name, (_, lengths, _) in _LLMS.items()},
        seed,
        counts=_REQUESTS,
    )
    llms = {name: UnitLLM(model, rate) for name, (rate, _, model) in _LLMS.items()}
    weights_gb = sum(model.shape.weight_gb for _, _, model in _LLMS.values())
    kv_gb = _GPUS * (_GPU_GB - _LLM_GB * len(_LLMS)) - weights_gb
    throughputs = {}
    for policy, system in POLICIES.items():
        outcomes = make_unit(SYSTEMS[system], llms, kv_gb, costs).run(requests)
        by_llm = [[outcome for outcome in outcomes if outcome.request.llm == name] for name in llms]
        throughputs[policy] = sum(measure(of_llm).throughput for of_llm in by_llm)
    return throughputs
