"""A placement: which LLMs share which GPUs, with what parallelism, shares and batches."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlacedLLM:
    """One LLM in its unit.

    Attributes:
        name: the endpoint's name.
        model: the model's shape, by name or by the path of its config.json.
        rate: requests/s that are asked for.
        tensor_parallel: over how many GPUs its weights are split.
        decode_share: compute share of its decode steps, in percent.
        batch_size: sequences that decode together.
        throughput: requests/s that are expected, at most the rate.
        prompt_len: mean tokens of a prompt.
        output_len: mean tokens of a completion.
        source: where the weights are, as `muxjax.serve` takes it; None where it is not known.
        slo: seconds within which requests should finish; None without such a wish.
    """

    name: str
    model: str
    rate: float
    tensor_parallel: int
    decode_share: int
    batch_size: int
    throughput: float
    prompt_len: float
    output_len: float
    source: str | None = None
    slo: float | None = None


@dataclass(frozen=True, slots=True)
class PlacedUnit:
    """A mesh of GPUs of one node, and the LLMs that share it.

    Attributes:
        node: the node, counted from 0.
        devices: the GPUs' numbers on that node.
        memory_per_gpu_gb: memory of each of these GPUs.
        llms: empty for GPUs that are left idle.
    """

    node: int
    devices: tuple[int, ...]
    memory_per_gpu_gb: float
    llms: tuple[PlacedLLM, ...]

    @property
    def gpus(self) -> int:
        """Size of the mesh."""
        return len(self.devices)


@dataclass(frozen=True, slots=True)
class Placement:
    """All units of a cluster.

    Attributes:
        search: what found it: published, released, greedy, best or exact.
        seconds: how long that took.
        throughput: requests/s, the sum over LLMs of min(tpt, rate) (MuxServe, section 3).
        authors_objective: rate-weighted mean of what MuxServe's code estimates, not capped at the rates.
        upper_bound: no placement has more throughput.
        units: by mesh size, large ones first.
    """

    search: str
    seconds: float
    throughput: float
    authors_objective: float
    upper_bound: float
    units: tuple[PlacedUnit, ...]

    @property
    def gap(self) -> float:
        """How far the throughput may be from the best one, as a part of the upper bound."""
        return max(0.0, 1 - self.throughput / self.upper_bound) if self.upper_bound > 0 else 0.0
