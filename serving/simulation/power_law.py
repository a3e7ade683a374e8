"""The workload of MuxServe's paper: 19 LLMs whose rates follow a power law, on 32 GPUs, placed and simulated."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from muxjax.placement.cost.cost_model import CostModel
from muxjax.placement.known_models import find_model
from muxjax.placement.placement import Placement
from muxjax.placement.problem import LLM, Cluster, Problem
from muxjax.placement.rules import kv_left_gb
from muxjax.placement.workload import Lengths, Request, make_requests, power_law_rates
from muxjax.serving.simulation.latencies import Latencies, ServedModel
from muxjax.serving.simulation.prefill_share import prefill_share
from muxjax.serving.simulation.systems import SYSTEMS, UnitLLM, make_unit
from muxjax.serving.simulation.unit_simulation import Outcome

CLUSTER = Cluster(nnodes=4, ngpus_per_node=8, memory_per_gpu_gb=80.0)
HIGHEST_RATE = 40.0
"""Requests/s of the most popular LLM at rate scale 1."""
_MODELS = 12 * ("llama-7b",) + 4 * ("llama-13b",) + 2 * ("llama-30b",) + ("llama-65b",)
_GPUS_ALONE = {"llama-7b": 1, "llama-13b": 1, "llama-30b": 4, "llama-65b": 8}
_LENGTHS = Lengths()  # of ShareGPT by the paper; the requests of its runs had others (`measured.SHAREGPT`)


@dataclass(frozen=True, slots=True)
class Unit:
    """GPUs and the LLMs on them, as they are simulated."""

    llms: Mapping[str, UnitLLM]
    kv_gb: float


def power_law_problem(alpha: float, scale: float = 1.0) -> Problem:
    """rate_i ~ i^-alpha (MuxServe, section 4.2)."""
    rates = power_law_rates(len(_MODELS), alpha, HIGHEST_RATE * scale)
    return Problem(
        CLUSTER,
        tuple(
            LLM(f"llm-{number}", find_model(model), rate, _LENGTHS.prompt_mean, _LENGTHS.output_mean)
            for number, (model, rate) in enumerate(zip(_MODELS, rates, strict=True))
        ),
    )


def placed(placement: Placement) -> list[Unit]:
    """The units of a placement."""
    units = []
    for unit in placement.units:
        shapes = [find_model(llm.model) for llm in unit.llms]
        llms = {
            llm.name: UnitLLM(ServedModel(shape, llm.tensor_parallel, llm.decode_share, prefill_share(shape)), llm.rate)
            for llm, shape in zip(unit.llms, shapes, strict=True)
        }
        if llms:
            units.append(_unit(llms, unit.gpus, unit.memory_per_gpu_gb))
    return units


def alone(problem: Problem) -> list[Unit]:
    """Spatial partitioning as MuxServe's authors ran it: every LLM on 1, 1, 4 or 8 GPUs of its own."""
    return [
        _unit({llm.name: UnitLLM(ServedModel(llm.shape, gpus), llm.rate)}, gpus, CLUSTER.memory_per_gpu_gb)
        for llm in problem.llms
        for gpus in [_GPUS_ALONE[llm.shape.name]]
    ]


def make_load(problem: Problem, duration: float, seed: int = 0) -> list[Request]:
    """Requests of `duration` seconds: the same whatever serves them."""
    return make_requests(
        {llm.name: llm.rate for llm in problem.llms},
        {llm.name: _LENGTHS for llm in problem.llms},
        seed,
        duration=duration,
    )


def simulate(
    units: Sequence[Unit], system: str, costs: CostModel, requests: Sequence[Request], until: float = inf
) -> Iterator[Outcome]:
    """What becomes of the requests, unit by unit, those with the highest rates first."""
    for unit in sorted(units, key=lambda unit: -sum(llm.rate for llm in unit.llms.values())):
        simulation = make_unit(SYSTEMS[system], unit.llms, unit.kv_gb, costs)
        yield from simulation.run((request for request in requests if request.llm in unit.llms), until)


def latencies_alone(problem: Problem, costs: CostModel) -> Callable[[Request], float]:
    """How long a request takes on its LLM's 1, 1, 4 or 8 GPUs when nothing else runs there, whatever the system."""
    models = {llm.name: ServedModel(llm.shape, _GPUS_ALONE[llm.shape.name]) for llm in problem.llms}
    latencies = Latencies(costs, models)

    def seconds(request: Request) -> float:
        prefill = latencies.prefill(request.llm, 100, 1, request.prompt_len)
        (decode,) = latencies.decodes(request.llm, 100, 1, request.prompt_len + request.output_len / 2, 1)
        return float(prefill + (request.output_len - 1) * decode)

    return seconds


def _unit(llms: Mapping[str, UnitLLM], gpus: int, memory_per_gpu_gb: float) -> Unit:
    weights_gb = [llm.model.shape.weight_gb for llm in llms.values()]
    return Unit(llms, kv_left_gb(gpus * memory_per_gpu_gb, weights_gb))
