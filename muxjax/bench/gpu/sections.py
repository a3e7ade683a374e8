"""What is measured, in which order, and for how long: under nine minutes in all."""

from functools import partial
from pathlib import Path

from muxjax.bench.gpu import steps, transformers_unit, unit
from muxjax.bench.gpu.scale import Scale
from muxjax.bench.isolated import Section
from muxjax.bench.kernels import ceilings


def sections(scale: Scale, folder: Path) -> list[list[Section]]:
    """One after another; the folder is for configurations and for the compile cache of the two starts."""
    return [
        [Section("ceilings", partial(ceilings.cases, scale.kernels), 20)],
        [Section("correctness", partial(unit.correctness, scale, folder), 60)],
        [Section("steps", partial(steps.alone, scale), 75)],
        [Section("pairs", partial(steps.pairs, scale), 125)],
        [Section("start, empty cache", partial(unit.started, scale, folder, "empty"), 60)],
        [Section("start, full cache", partial(unit.started, scale, folder, "full"), 30)],
        [Section("served", partial(unit.served, scale, folder), 120)],
        [Section("transformers", partial(transformers_unit.cases, scale, folder), 30)],
    ]
