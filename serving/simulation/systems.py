"""Units of the systems that are compared: their pools, policies and plants."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from math import gcd

from muxjax.placement.cost.cost_model import CostModel
from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.adbs import ADBS
from muxjax.serving.scheduler.fcfs import FCFS
from muxjax.serving.scheduler.policy import Policy
from muxjax.serving.scheduler.round_robin import RoundRobin
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.share import LLMShare
from muxjax.serving.simulation.latencies import Latencies, ServedModel
from muxjax.serving.simulation.process_plant import ProcessPlant
from muxjax.serving.simulation.process_simulation import ProcessSimulation
from muxjax.serving.simulation.step_plant import StepPlant
from muxjax.serving.simulation.step_simulation import StepSimulation
from muxjax.serving.simulation.unit_simulation import UnitSimulation

BLOCK_TOKENS, HEAD_DIM = 32, 128
BLOCK_BYTES = 2 * 2 * BLOCK_TOKENS * HEAD_DIM
"""A head block: keys and values, 16 bits each."""
MAX_CONTEXT = 4096
"""A prompt and a completion of the longest that the workloads have."""
PROCESS_COMPUTE = 1.2
"""Jobs of MuxServe's processes may overlap by a fifth of the device."""
GATHER = 0.3
"""Seconds for which our ADBS lets prompts gather."""
MOST_SEQUENCES = 4096  # beyond what fits into the memory of any unit
_NO_LIMIT = 1 << 20


class Sharing(Enum):
    """How the jobs of a unit share its device."""

    PROCESSES = "beside one another under compute shares"
    IN_TURN = "one at a time"
    PACKED = "in steps, each one program"
    INTERLEAVED = "in steps of programs back to back"


@dataclass(frozen=True, slots=True)
class System:
    """How a unit is run.

    Attributes:
        policy: makes what chooses the jobs.
        sharing: how jobs share the device.
        max_prefill_tokens: of one prefill; muxjax's are chunks, which bound how long decodes wait.
        max_sequences: of one LLM at once.
        restarts: whether preempted requests generate their tokens anew, as in MuxServe's code.
        growth_room: whether a prompt waits for room for those that run to grow. MuxServe's code admits what fits now.
    """

    policy: Callable[[], Policy]
    sharing: Sharing
    max_prefill_tokens: int = 2048
    max_sequences: int = MOST_SEQUENCES
    restarts: bool = True
    growth_room: bool = False


SYSTEMS = {
    "muxserve": System(partial(ADBS, passing=True), Sharing.PROCESSES),
    "our_adbs": System(partial(ADBS, passing=True, gather=GATHER), Sharing.PROCESSES, restarts=False, growth_room=True),
    "round_robin": System(partial(RoundRobin, passing=True, quotas=False), Sharing.PROCESSES, max_sequences=256),
    "fcfs": System(partial(FCFS, strict=True), Sharing.PROCESSES, max_sequences=256),
    "spatial": System(partial(FCFS, strict=True), Sharing.IN_TURN),
    "temporal": System(partial(FCFS, strict=True), Sharing.IN_TURN, max_sequences=256),
    "muxjax": System(ADBS, Sharing.PACKED, max_prefill_tokens=512, restarts=False, growth_room=True),
    "muxjax_interleaved": System(ADBS, Sharing.INTERLEAVED, max_prefill_tokens=512, restarts=False, growth_room=True),
}


@dataclass(frozen=True, slots=True)
class UnitLLM:
    """One LLM of a unit.

    Attributes:
        model: its sizes, and the GPUs and the shares that it has.
        rate: requests/s.
    """

    model: ServedModel
    rate: float


def make_unit(
    system: System, llms: Mapping[str, UnitLLM], kv_gb: float, costs: CostModel, *, leaps: bool = True
) -> UnitSimulation:
    """A unit with so much memory for keys and values on all of its GPUs together; `leaps` as in UnitSimulation.

    Raises:
        ValueError: that is no room for a page of each LLM.
    """
    if system.sharing is not Sharing.PROCESSES:
        llms = {
            name: replace(llm, model=replace(llm.model, prefill_share=100, decode_share=100))
            for name, llm in llms.items()
        }
    models = {name: llm.model for name, llm in llms.items()}
    scheduler = _make_scheduler(system, llms, _make_pool(models, kv_gb))
    latencies = Latencies(costs, models)
    if system.sharing in (Sharing.PACKED, Sharing.INTERLEAVED):
        steps = StepPlant(latencies, costs, models, packed=system.sharing is Sharing.PACKED)
        return StepSimulation(scheduler, steps, leaps=leaps)
    return ProcessSimulation(scheduler, ProcessPlant(latencies, models), restarts=system.restarts, leaps=leaps)


def _make_scheduler(system: System, llms: Mapping[str, UnitLLM], pool: Pool) -> Scheduler:
    """Jobs of a step hold no compute, so that they start together."""
    holds = 0.0 if system.sharing in (Sharing.PACKED, Sharing.INTERLEAVED) else 0.01
    shares = {
        name: LLMShare(
            llm.rate,
            max_context=min(pool.page_tokens(name) * (pool.max_pages(name) - 1), MAX_CONTEXT),
            max_sequences=system.max_sequences,
            max_waiting=_NO_LIMIT,
            prefill_compute=holds * llm.model.prefill_share,
            decode_compute=holds * llm.model.decode_share,
        )
        for name, llm in llms.items()
    }
    return Scheduler(
        pool,
        shares,
        system.policy(),
        max_prefill_tokens=system.max_prefill_tokens,
        max_prefill_sequences=256,
        compute=PROCESS_COMPUTE,
        growth_room=system.growth_room,
    )


def _make_pool(models: Mapping[str, ServedModel], kv_gb: float) -> Pool:
    """Head blocks are counted in the greatest common measure of all pages."""
    pages = {
        name: served.shape.layers * served.shape.kv_heads * served.shape.head_dim // HEAD_DIM
        for name, served in models.items()
    }
    measure = gcd(*pages.values())
    blocks = int(kv_gb * 1024**3 / BLOCK_BYTES / measure)
    if blocks * measure < sum(pages.values()):
        gpus = next(iter(models.values())).gpus
        raise ValueError(f"the weights of {', '.join(models)} leave {kv_gb:.1f} GB of {gpus} GPUs: no room for KV")
    pool = Pool(blocks + 1)
    for name, blocks_per_page in pages.items():
        pool.add_llm(name, layers=blocks_per_page // measure, kv_heads=1, head_dim=HEAD_DIM)
    return pool
