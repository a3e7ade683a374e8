"""Measured runs replayed side by side on this machine's cores."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from muxjax.placement.cost.table import CostTable
from muxjax.serving.simulation.measured import MeasuredRun
from muxjax.serving.simulation.validation import Comparison, simulate_run
from muxjax.simulate.progress import tracked

MOST_GPUS = 8  # of a unit


def replay_runs(runs: Sequence[MeasuredRun], table: CostTable, seed: int) -> list[Comparison]:
    """The runs in their order, with progress on a terminal's standard error.

    Raises PlacementError where the table lacks one of their models.
    """
    table.check([llm.shape.name for run in runs for llm in run.llms.values()], MOST_GPUS)
    # Not forked: whoever calls may have threads.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        replayed = pool.map(simulate_run, runs, repeat(table), repeat(seed))
        return list(tracked(replayed, "replaying", len(runs)))
