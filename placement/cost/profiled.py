"""What all readings of a cost table share: which meshes, shares and batches were profiled."""

from collections.abc import Sequence

from muxjax.placement.cost.table import CostTable
from muxjax.placement.model_shape import ModelShape


class ProfiledTable:
    """The half of `CostModel` that does not depend on how latencies between the profiled points are found."""

    def __init__(self, table: CostTable) -> None:
        self._table = table

    def gpu_counts(self, model: ModelShape) -> Sequence[int]:
        """Mesh sizes that were profiled."""
        return sorted(self._table.entries.get(model.name, ()))

    def shares(self, model: ModelShape, gpus: int) -> Sequence[int]:
        """Shares that were profiled."""
        return sorted(self._table.entries[model.name][gpus])

    def max_batch(self, model: ModelShape, gpus: int, share: int) -> int:
        """The largest batch of which some decode step was profiled."""
        batches = self._table.batches(model.name, gpus, share)
        return max(batch for batch, lengths in batches.items() if any(entry.decode for entry in lengths.values()))
