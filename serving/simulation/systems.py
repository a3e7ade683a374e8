"""Units of the systems that are compared: their pools, policies and plants."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

from muxjax.placement.cost.cost_model import CostModel
from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.policies import make_policy
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.share import LLMShare
from muxjax.serving.simulation.plant import Plant, SerialPlant, ServedModel, SharedPlant
from muxjax.serving.simulation.unit_simulation import UnitSimulation

BLOCK_TOKENS, HEAD_DIM = 32, 128
BLOCK_BYTES = 2 * 2 * BLOCK_TOKENS * HEAD_DIM
"""A head block: keys and values, 16 bits each."""
MEMORY_USED, PROCESS_GB = 0.98, 6.0
"""What MuxServe's code leaves for weights and KV, and what an LLM's processes take of it beside them."""
MAX_PREFILL_TOKENS = 2048
MAX_CONTEXT = 4096
"""A prompt and a completion of the longest that the workloads have."""
_MAX_SEQUENCES = 4096  # beyond what fits into the memory of any unit
_NO_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class System:
    """How a unit is run.

    Attributes:
        policy: which policy chooses the jobs.
        exclusive: whether a job has the whole device, so that the next waits for its end.
    """

    policy: str
    exclusive: bool


SYSTEMS = {
    "muxserve": System("adbs", exclusive=False),
    "round_robin": System("round_robin", exclusive=False),
    "fcfs": System("fcfs", exclusive=False),
    "spatial": System("adbs", exclusive=False),
    "temporal": System("fcfs", exclusive=True),
    "muxjax": System("adbs", exclusive=True),
}


@dataclass(frozen=True, slots=True)
class UnitLLM:
    """One LLM of a unit.

    Attributes:
        model: its sizes, and the GPUs and the share that it has.
        rate: requests/s.
    """

    model: ServedModel
    rate: float


def make_unit(
    system: System, llms: Mapping[str, UnitLLM], memory_gb: float, costs: CostModel, *, leaps: bool = True
) -> UnitSimulation:
    """A unit whose GPUs have `memory_gb` each; `leaps` as in UnitSimulation.

    Raises:
        ValueError: the weights leave no room for a page of each LLM.
    """
    pool = _make_pool(llms, memory_gb)
    compute = 1.0 if system.exclusive else 0.0
    shares = {
        name: LLMShare(
            llm.rate,
            max_context=min(pool.page_tokens(name) * (pool.max_pages(name) - 1), MAX_CONTEXT),
            max_sequences=_MAX_SEQUENCES,
            max_waiting=_NO_LIMIT,
            prefill_compute=compute,
            decode_compute=compute,
        )
        for name, llm in llms.items()
    }
    scheduler = Scheduler(
        pool,
        shares,
        make_policy(system.policy),
        max_prefill_tokens=MAX_PREFILL_TOKENS,
        max_prefill_sequences=256,
    )
    models = {name: llm.model for name, llm in llms.items()}
    plant: Plant = SerialPlant(costs, models) if system.exclusive else SharedPlant(costs, models)
    return UnitSimulation(scheduler, plant, leaps=leaps)


def _make_pool(llms: Mapping[str, UnitLLM], memory_gb: float) -> Pool:
    """The KV memory that the weights leave. Head blocks are counted in the greatest common measure of all pages."""
    gpus = next(iter(llms.values())).model.gpus
    free_gb = MEMORY_USED * memory_gb * gpus - sum(llm.model.shape.weight_gb + PROCESS_GB for llm in llms.values())
    pages = {
        name: llm.model.shape.layers * llm.model.shape.kv_heads * llm.model.shape.head_dim // HEAD_DIM
        for name, llm in llms.items()
    }
    measure = gcd(*pages.values())
    blocks = int(free_gb * 1024**3 / BLOCK_BYTES / measure)
    if blocks * measure < sum(pages.values()):
        raise ValueError(f"the weights of {', '.join(llms)} leave {free_gb:.1f} GB of {gpus} GPUs: no room for KV")
    pool = Pool(blocks + 1)
    for name, blocks_per_page in pages.items():
        pool.add_llm(name, layers=blocks_per_page // measure, kv_heads=1, head_dim=HEAD_DIM)
    return pool
