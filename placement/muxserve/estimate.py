"""What MuxServe's code expects of a mesh with several LLMs."""

from collections.abc import Sequence
from dataclasses import dataclass

from muxjax.placement.job_times import Costs
from muxjax.placement.muxserve.candidates import smallest_batch
from muxjax.placement.problem import LLM
from muxjax.placement.rules import kv_budget_gb


@dataclass(frozen=True, slots=True)
class MeshEstimate:
    """Batches as large as the rates ask for, or memory allows.

    Attributes:
        mean: the highest rate-weighted mean of the LLMs' throughputs, requests/s, on the way of their growth.
        batch_sizes: for each LLM, where that mean was reached.
    """

    mean: float
    batch_sizes: tuple[int, ...]


def estimate_mesh(gpus: int, memory_gb: float, members: Sequence[tuple[LLM, int]], costs: Costs) -> MeshEstimate:
    """Divide the mesh's KV memory by rate x KV size, then let the LLM with the lowest throughput/rate grow by one.

    It ends when every LLM is satisfied or cannot grow. A mesh of which no LLM can grow from the start counts as
    nothing: the code evaluates only before it grows.

    Args:
        memory_gb: of the whole mesh.
        members: LLMs with their decode shares in percent.
    """
    llms = [llm for llm, _ in members]
    times = [costs.times(llm, gpus, share) for llm, share in members]
    kv_gb, demand = kv_budget_gb(memory_gb, llms), sum(llm.shape.kv_gb_per_token * llm.rate for llm in llms)
    held = [llm.rate * llm.shape.kv_gb_per_token / demand * kv_gb // llm.kv_gb_per_sequence for llm in llms]
    most = [min(sequences, time.max_batch) for sequences, time in zip(held, times, strict=True)]
    batches = [
        smallest_batch(time, llm.rate, sequences)[0] for llm, time, sequences in zip(llms, times, held, strict=True)
    ]
    prefills, completions = [time.lists[0] for time in times], [time.lists[1] for time in times]
    rates = [llm.rate for llm in llms]
    total_rate = sum(rates)
    best, best_batches = 0.0, tuple(batches)
    everyone = range(len(llms))
    while any(batches[i] < most[i] for i in everyone):
        waiting = sum(prefills[i][batches[i]] for i in everyone)
        mean, lowest, growing = 0.0, 100.0, -1
        for i in everyone:
            throughput = batches[i] / (completions[i][batches[i]] + waiting)
            mean += throughput * rates[i]
            if throughput + min(0.5, throughput * 0.1) < rates[i] and batches[i] < most[i]:
                ratio = throughput / rates[i]
                if ratio < lowest:
                    lowest, growing = ratio, i
        mean /= total_rate
        if mean > best:
            best, best_batches = mean, tuple(batches)
        if growing < 0:
            break
        batches[growing] += 1
    return MeshEstimate(best, best_batches)
