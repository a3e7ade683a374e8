"""Whether a cluster can hold the LLMs, and in words what is missing."""

from muxjax.placement.job_times import Costs
from muxjax.placement.problem import Problem
from muxjax.placement.rules import kv_budget_gb, mesh_sizes, weight_budget_gb


def explain_shortage(problem: Problem, costs: Costs) -> list[str]:
    """Complaints: LLMs that fit on no mesh, or all weights together that are too much; none if neither is so."""
    complaints = [
        complaint for index in range(len(problem.llms)) if (complaint := _too_large(problem, costs, index)) is not None
    ]
    return complaints or _too_many(problem)


def _too_large(problem: Problem, costs: Costs, index: int) -> str | None:
    llm, cluster = problem.llms[index], problem.cluster
    sizes = mesh_sizes(cluster.ngpus_per_node)
    known = [size for size in sizes if size in costs.gpu_counts(llm)]
    if not known:
        return (
            f"models.{index}: {llm.name}: the costs of {llm.shape.name} are not known for meshes of "
            f"{' or '.join(map(str, sizes))} GPUs: profile it there"
        )
    memory_gb = known[-1] * cluster.memory_per_gpu_gb
    weights_missing = llm.shape.weight_gb - weight_budget_gb(memory_gb)
    kv_missing = llm.kv_gb_per_sequence - kv_budget_gb(memory_gb, [llm])
    missing = max(weights_missing, kv_missing)
    if missing <= 0:
        return None
    return (
        f"models.{index}: {llm.name} ({llm.shape.name}) does not fit: its weights are {llm.shape.weight_gb:.4g} GB and "
        f"a mesh of {_gpus(known[-1])} has {weight_budget_gb(memory_gb):.4g} GB for weights (the rest is for "
        f"activations and KV): {missing:.3g} GB are missing; larger nodes or GPUs with more memory would help"
    )


def _too_many(problem: Problem) -> list[str]:
    cluster = problem.cluster
    there = weight_budget_gb(cluster.memory_per_gpu_gb * cluster.gpus)
    needed = sum(llm.shape.weight_gb for llm in problem.llms)
    if needed <= there:
        return []
    left_out, taken = [], 0.0
    for llm in sorted(problem.llms, key=lambda llm: llm.rate / llm.shape.weight_gb, reverse=True):
        if taken + llm.shape.weight_gb <= there:
            taken += llm.shape.weight_gb
        else:
            left_out.append(llm.name)
    nodes = -int(-needed // weight_budget_gb(cluster.memory_per_gpu_gb * cluster.ngpus_per_node))
    return [
        f"cluster: cannot hold the weights: they are {needed:.4g} GB and its {_gpus(cluster.gpus)} have {there:.4g} GB "
        f"for weights (the rest is for activations and KV): {needed - there:.3g} GB are missing; it would fit without "
        f"{', '.join(left_out)}, or on {nodes} nodes of {_gpus(cluster.ngpus_per_node)}"
    ]


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
