"""Alg. 2 of MuxServe: for each LLM and mesh size, the smallest decode share that reaches its rate."""

import math
from dataclasses import dataclass

from muxjax.placement.job_times import Costs, JobTimes
from muxjax.placement.problem import LLM, Problem
from muxjax.placement.rules import LARGEST_MESH, average_use, mesh_sizes, weight_budget_gb


@dataclass(frozen=True, slots=True)
class Candidate:
    """How an LLM would run, alone, on a mesh.

    Attributes:
        share: compute share of its decode steps, in percent.
        batch_size: sequences that decode together.
        throughput: requests/s.
    """

    share: int
    batch_size: int
    throughput: float


def missing_is_small(throughput: float, rate: float) -> bool:
    """Whether MuxServe takes an LLM for satisfied: a tenth of its throughput, at most 0.5, may be missing."""
    return throughput + min(0.5, throughput * 0.1) > rate


def smallest_batch(times: JobTimes, rate: float, most_sequences: float) -> tuple[int, float]:
    """By bisection the batch that reaches a rate, or the largest that fits; and its throughput.

    Batches between whole numbers are tried, and the last one is cut off, as MuxServe's code does.
    """
    low, high = 1.0, max(2.0, min(most_sequences, times.max_batch))
    batch = throughput = 0.0
    while high - low >= 1:
        batch = (low + high) / 2
        profiled = math.ceil(batch)
        decode = float(times.decode[profiled]) + times.scheduling * batch
        throughput = batch / (decode * times.output_len + float(times.prefill[profiled]))
        low, high = (low, batch) if throughput >= rate else (batch, high)
    return int(batch), throughput


def find_candidates(problem: Problem, costs: Costs) -> list[dict[int, Candidate]]:
    """For each LLM its candidates by mesh size, from the smallest mesh that holds its weights.

    Every mesh is taken to have the cluster's average use of memory as KV memory: the code's way.
    """
    memory_gb = problem.cluster.memory_per_gpu_gb
    kv_part = average_use(memory_gb * problem.cluster.gpus, problem.llms)
    found = []
    for llm in problem.llms:
        sizes = [size for size in mesh_sizes(LARGEST_MESH) if size in costs.gpu_counts(llm)]
        fitting = [size for size in sizes if llm.shape.weight_gb <= weight_budget_gb(memory_gb * size)]
        kv_gb = [kv_part * memory_gb * size for size in fitting]
        found.append({size: _best_share(llm, size, kv, costs) for size, kv in zip(fitting, kv_gb, strict=True)})
    return found


def _best_share(llm: LLM, gpus: int, kv_gb: float, costs: Costs) -> Candidate:
    most_sequences = kv_gb // llm.kv_gb_per_sequence
    best = Candidate(0, 0, 0.0)
    for share in costs.decode_shares(llm, gpus):
        batch, throughput = smallest_batch(costs.times(llm, gpus, share), llm.rate, most_sequences)
        if missing_is_small(throughput, llm.rate):
            return Candidate(share, batch, llm.rate)
        if throughput > best.throughput:
            best = Candidate(share, batch, throughput)
    return best
