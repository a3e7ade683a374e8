"""What a mesh can hold, as MuxServe's code has it: memory, compute shares, and the meshes a node splits into."""

from collections.abc import Iterable, Iterator, Sequence

from muxjax.placement.problem import LLM

SHARE_LIMIT = 120  # decode shares of a mesh may add up to this: they are seldom all busy
LARGEST_MESH = 8
_ACTIVATIONS_GB = 6.0  # per LLM
_USABLE = 0.98  # of a mesh's memory, for weights, activations and KV


def weight_budget_gb(memory_gb: float) -> float:
    """How much of a mesh's memory weights may take, so that enough is left for KV: 43.2 of 80 GB."""
    return 0.9 * (1 - 0.4) * memory_gb


def kv_budget_gb(memory_gb: float, llms: Iterable[LLM]) -> float:
    """What weights and activations leave of a mesh's memory."""
    return kv_left_gb(memory_gb, [llm.shape.weight_gb for llm in llms])


def kv_left_gb(memory_gb: float, weights_gb: Sequence[float]) -> float:
    """The same, given each LLM's weights."""
    return max(0.0, memory_gb * _USABLE - sum(weights_gb) - len(weights_gb) * _ACTIVATIONS_GB)


def beside_kv_gb(llm: LLM) -> float:
    """What an LLM takes of its mesh beside its KV: weights and activations."""
    return llm.shape.weight_gb + _ACTIVATIONS_GB


def average_use(memory_gb: float, llms: Iterable[LLM]) -> float:
    """Weights and activations of all LLMs as a part of the cluster's memory."""
    return sum(map(beside_kv_gb, llms)) / memory_gb


def mesh_sizes(gpus: int) -> list[int]:
    """Sizes that a mesh can have on a node: powers of two."""
    return [size for size in (1, 2, 4, LARGEST_MESH) if size <= gpus]


def node_splits(gpus: int, largest: int = LARGEST_MESH) -> Iterator[tuple[int, ...]]:
    """All ways to split a node into meshes, those with large meshes first: (4,), (2, 2), (2, 1, 1), (1, 1, 1, 1)."""
    if gpus == 0:
        yield ()
    for size in reversed(mesh_sizes(min(gpus, largest))):
        for rest in node_splits(gpus - size, size):
            yield (size, *rest)
