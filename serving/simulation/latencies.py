"""Latencies of a unit's jobs, tabulated so that they are quick to look up one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from muxjax.placement.cost.cost_model import CostModel
from muxjax.placement.model_shape import ModelShape

_KNOT = 32  # tokens; the lengths of profiled tables are multiples of it, so that nothing is lost between knots
_KNOTS = np.arange(0, 4097, _KNOT, dtype=np.float64)
_MAX_TABLES = 65_536  # of 129 numbers each; more than the batches and shares that a unit comes by


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a plant knows of an LLM.

    Attributes:
        shape: its sizes.
        gpus: over how many GPUs it is split.
        decode_share: compute share of its decode process, in percent.
        prefill_share: the same of its prefill process.
    """

    shape: ModelShape
    gpus: int
    decode_share: int = 100
    prefill_share: int = 100


class Latencies:
    """Seconds of prefills and decode steps of the LLMs of a unit, alone on it.

    A cost model answers for arrays; a simulator asks for one job at a time, a hundred thousand times. So latencies are
    asked for once for every LLM, share and batch, at all lengths that are multiples of 32, and are linear between.
    """

    def __init__(self, costs: CostModel, models: Mapping[str, ServedModel]) -> None:
        self._costs = costs
        self._models = models
        self._prefills = lru_cache(maxsize=_MAX_TABLES)(self._make_prefills)
        self._decodes = lru_cache(maxsize=_MAX_TABLES)(self._make_decodes)
        self._shares = {
            llm: np.asarray(costs.shares(served.shape, served.gpus), np.float64) for llm, served in models.items()
        }

    def prefill(self, llm: str, share: float, prompts: int, tokens: float) -> float:
        """Of so many prompts with `tokens` tokens each on average, under the nearest known share, in percent."""
        return _at(self._prefills(llm, self._nearest(llm, share), prompts), tokens)

    def decodes(self, llm: str, share: float, batch: int, context: float, steps: int) -> NDArray[np.float64]:
        """Of so many decode steps in a row of sequences that have `context` tokens on average at the first of them."""
        lengths = context + np.arange(steps)
        return np.interp(lengths, _KNOTS, self._decodes(llm, self._nearest(llm, share), batch))

    def _nearest(self, llm: str, share: float) -> int:
        shares = self._shares[llm]
        return int(shares[np.abs(shares - share).argmin()]) if len(shares) > 1 else int(shares[0])

    def _make_prefills(self, llm: str, share: int, prompts: int) -> list[float]:
        served = self._models[llm]
        return self._costs.prefill_seconds(served.shape, served.gpus, share, prompts, _KNOTS).tolist()

    def _make_decodes(self, llm: str, share: int, batch: int) -> list[float]:
        served = self._models[llm]
        return self._costs.decode_seconds(served.shape, served.gpus, share, batch, _KNOTS).tolist()


def _at(values: list[float], length: float) -> float:
    knot = min(int(length) // _KNOT, len(values) - 2)
    part = (length - knot * _KNOT) / _KNOT
    return values[knot] + part * (values[knot + 1] - values[knot])
