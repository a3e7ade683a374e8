"""How long jobs take: in processes that overlap under compute shares, or on a device that runs one at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from muxjax.placement.cost.cost_model import CostModel, scheduling_seconds
from muxjax.placement.model_shape import ModelShape
from muxjax.serving.scheduler.job import Job, JobKind

HOST_PART = 0.4
"""Which part of the estimate's host time a decode step takes.

Chosen on one measured case (alpha 2.1, scale 1.0), whose totals come out so, predicted over measured, for spatial
partitioning, temporal multiplexing and MuxServe: 0.86, 0.78, 0.84 with the whole of it; 0.93, 0.95, 0.97 with a half;
0.97, 1.05, 1.06 with a quarter; 1.00, 1.18, 1.16 with none.
"""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a plant knows of an LLM.

    Attributes:
        shape: its sizes.
        gpus: over how many GPUs it is split.
        decode_share: compute share of its decode process, in percent.
    """

    shape: ModelShape
    gpus: int
    decode_share: int = 100


class Plant(Protocol):
    """Durations of jobs, given the jobs that are in flight when they start."""

    def prefill_seconds(self, job: Job, in_flight: Iterable[tuple[str, JobKind]]) -> float:
        """Of one prefill job."""
        ...

    def decode_seconds(
        self, llm: str, batch: int, contexts: NDArray[np.float64], in_flight: Iterable[tuple[str, JobKind]]
    ) -> NDArray[np.float64]:
        """Of decode steps whose sequences have so many tokens on average, one for each of `contexts`."""
        ...


class SharedPlant:
    """Prefills and decodes run beside one another (MuxServe section 3.3): each job has its compute share at most.

    Where the shares in flight add up to more than the device, all shrink in proportion. The host adds to a decode step
    a part of what MuxServe's own estimates add for each sequence.
    """

    def __init__(self, costs: CostModel, models: Mapping[str, ServedModel]) -> None:
        self._costs = costs
        self._models = models

    def prefill_seconds(self, job: Job, in_flight: Iterable[tuple[str, JobKind]]) -> float:
        """All chunks run as one batch."""
        served = self._models[job.llm]
        share = self._share(served, 100, in_flight)
        tokens = job.num_tokens / len(job.chunks)
        return float(self._costs.prefill_seconds(served.shape, served.gpus, share, len(job.chunks), tokens))

    def decode_seconds(
        self, llm: str, batch: int, contexts: NDArray[np.float64], in_flight: Iterable[tuple[str, JobKind]]
    ) -> NDArray[np.float64]:
        """The device's time and the host's."""
        served = self._models[llm]
        share = self._share(served, served.decode_share, in_flight)
        device = self._costs.decode_seconds(served.shape, served.gpus, share, batch, contexts)
        return device + HOST_PART * batch * scheduling_seconds(served.shape)

    def _share(self, served: ServedModel, own: int, in_flight: Iterable[tuple[str, JobKind]]) -> int:
        """The profiled share that is the nearest to what the job gets."""
        total = sum(100 if kind is JobKind.PREFILL else self._models[llm].decode_share for llm, kind in in_flight)
        gets = own * min(1.0, 100 / max(total, own))
        return min(self._costs.shares(served.shape, served.gpus), key=lambda share: abs(share - gets))


class SerialPlant(SharedPlant):
    """One job after another, each with the whole device."""

    def _share(self, served: ServedModel, own: int, in_flight: Iterable[tuple[str, JobKind]]) -> int:
        return max(self._costs.shares(served.shape, served.gpus))
