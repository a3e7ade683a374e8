"""Round-robin with fixed quotas, or none."""

from collections.abc import Mapping
from collections.abc import Sequence as Series
from math import inf

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.job_starter import JobStarter, Shortage
from muxjax.serving.scheduler.quota import initial_quotas
from muxjax.serving.scheduler.share import LLMShare
from muxjax.serving.scheduler.turns import Turns, start_decodes_in_turn, start_prefill_in_turn


class RoundRobin:
    """Prefills and decodes of the LLMs in turn, within quotas that never change.

    A prefill that lacks compute keeps decodes from starting, as in ADBS, since a prefill that takes all the compute
    would never find it free. One that lacks blocks does not.
    """

    def __init__(self, *, passing: bool = False, quotas: bool = True) -> None:
        """`passing` as in ADBS; without `quotas`, as in MuxServe's code, the whole pool is everyone's."""
        self._passing = passing
        self._quotas = quotas
        self._prefill_turns = Turns()
        self._decode_turns = Turns()

    def initial_quotas(self, pool: Pool, shares: Mapping[str, LLMShare]) -> dict[str, int]:
        """By popularity and size, if there are any."""
        return initial_quotas(pool, shares) if self._quotas else dict.fromkeys(shares, pool.capacity)

    def start_jobs(self, starter: JobStarter, now: float) -> None:
        """One prefill and all decodes that fit, in turn."""
        waits = start_prefill_in_turn(starter, self._prefill_turns, now)
        if waits is None or waits[1] is not Shortage.COMPUTE:
            start_decodes_in_turn(starter, self._decode_turns, passing=self._passing)

    def decode_repeated(self, llm: str, blocks: Series[int]) -> None:
        """Its turn is over."""
        self._decode_turns.served(llm)

    def keeps_turn(self, starter: JobStarter, llm: str) -> bool:
        """Never: LLMs take turns."""
        return False

    @property
    def next_change(self) -> float:
        """Never."""
        return inf
