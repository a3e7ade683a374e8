"""How long muxjax's steps take: a prefill chunk and decode batches of any LLMs, packed or one after another."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from muxjax.placement.cost.cost_model import CostModel
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.simulation.latencies import Latencies, ServedModel
from muxjax.serving.simulation.load import Load


class StepPlant:
    """The jobs of a step run as one program, or as programs back to back.

    **Packed**, a step takes max(longest job, sum of compute, sum of memory): arithmetic of one job overlaps memory
    traffic of another, and neither unit of the device does two things at once. So it never takes longer than its jobs
    one after another. What a job takes of each comes from the cost model alone:

    - a prefill is bound by compute: its whole time; of memory it takes the reading of its weights, which is at most
      a decode step of one sequence;
    - a decode step is bound by memory: its whole time; of compute it takes at most share x its time under the
      smallest compute share that is known, since that part of the device was enough for it.

    No GPU has confirmed this law yet. **Interleaved**, a step takes the sum of its jobs.
    """

    def __init__(
        self, latencies: Latencies, costs: CostModel, models: Mapping[str, ServedModel], *, packed: bool
    ) -> None:
        self._latencies = latencies
        self._packed = packed
        self._least_shares = {llm: min(costs.shares(served.shape, served.gpus)) for llm, served in models.items()}

    def seconds(self, loads: Sequence[Load], steps: int) -> NDArray[np.float64]:
        """Of so many steps in a row with the same jobs; of one, if there is a prefill among them."""
        alone = np.array([self._alone(load, 100, steps) for load in loads])
        if not self._packed:
            return np.sum(alone, axis=0)
        compute = np.minimum(alone, [self._compute(load, steps) for load in loads])
        memory = np.minimum(alone, [self._memory(load, steps) for load in loads])
        return np.max([alone.max(axis=0), compute.sum(axis=0), memory.sum(axis=0)], axis=0)

    def _alone(self, load: Load, share: float, steps: int) -> NDArray[np.float64]:
        if load.kind is JobKind.PREFILL:
            return np.full(steps, self._latencies.prefill(load.llm, share, load.sequences, load.tokens))
        return self._latencies.decodes(load.llm, share, load.sequences, load.tokens, steps)

    def _compute(self, load: Load, steps: int) -> NDArray[np.float64]:
        if load.kind is JobKind.PREFILL:
            return self._alone(load, 100, steps)
        share = self._least_shares[load.llm]
        return share / 100 * self._alone(load, share, steps)

    def _memory(self, load: Load, steps: int) -> NDArray[np.float64]:
        if load.kind is JobKind.PREFILL:
            return self._latencies.decodes(load.llm, 100, 1, 0, 1).repeat(steps)
        return self._alone(load, 100, steps)
