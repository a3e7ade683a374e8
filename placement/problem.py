"""What a search is given: a cluster, and LLMs with their rates."""

from dataclasses import dataclass

from muxjax.placement.model_shape import ModelShape


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes with GPUs of one kind; a mesh never spans nodes.

    Attributes:
        nnodes: nodes.
        ngpus_per_node: GPUs of each node.
        memory_per_gpu_gb: memory of each GPU.
    """

    nnodes: int
    ngpus_per_node: int
    memory_per_gpu_gb: float

    @property
    def gpus(self) -> int:
        """All GPUs."""
        return self.nnodes * self.ngpus_per_node


@dataclass(frozen=True, slots=True)
class LLM:
    """An LLM and its load.

    Attributes:
        name: the endpoint's name.
        shape: its sizes.
        rate: requests/s.
        prompt_len: mean tokens of a prompt.
        output_len: mean tokens of a completion.
        source: where its weights are, as `muxjax.serve` takes it; None where it is not known.
        slo: seconds within which requests should finish; None without such a wish.
    """

    name: str
    shape: ModelShape
    rate: float
    prompt_len: float
    output_len: float
    source: str | None = None
    slo: float | None = None

    @property
    def kv_gb_per_sequence(self) -> float:
        """KV memory of a whole request."""
        return self.shape.kv_gb_per_token * (self.output_len + self.prompt_len)


@dataclass(frozen=True, slots=True)
class Problem:
    """Which LLMs shall share which GPUs?"""

    cluster: Cluster
    llms: tuple[LLM, ...]
