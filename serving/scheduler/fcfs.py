"""First come, first served."""

from collections.abc import Mapping
from collections.abc import Sequence as Series
from math import inf

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.job_starter import JobStarter, Shortage
from muxjax.serving.scheduler.llm_queue import LLMQueue
from muxjax.serving.scheduler.share import LLMShare


class FCFS:
    """The oldest request first, whatever its LLM; the pool is shared without quotas.

    The prefill of the LLM whose next sequence is the oldest starts first. If it lacks compute it waits, and nothing
    passes it; if it lacks blocks, only prompts that were begun (they need none) and decodes pass it, which will free
    some. An LLM without a free slot is passed over. Then decodes start, LLMs with the oldest sequences first, until one
    lacks compute.
    """

    def __init__(self, *, strict: bool = False) -> None:
        """With `strict` no prefill passes the oldest one, whatever that lacks, as in MuxServe's code."""
        self._strict = strict

    def initial_quotas(self, pool: Pool, shares: Mapping[str, LLMShare]) -> dict[str, int]:
        """The whole pool for everyone."""
        return dict.fromkeys(shares, pool.capacity)

    def start_jobs(self, starter: JobStarter, now: float) -> None:
        """The oldest prefill, then decodes by age."""
        if not starter.prefill_in_flight and self._prefill_waits_for_compute(starter, now):
            return
        ages = {llm: _age(queue) for llm, queue in starter.queues.items() if starter.has_decode(llm)}
        for llm in sorted(ages, key=ages.__getitem__):
            if starter.decode_lacks_compute(llm):
                return
            starter.start_decode(llm)

    def decode_repeated(self, llm: str, blocks: Series[int]) -> None:
        """Nothing is recorded."""

    def keeps_turn(self, starter: JobStarter, llm: str) -> bool:
        """If it runs alone and has the oldest sequence that decodes."""
        ages = {name: _age(queue) for name, queue in starter.queues.items() if queue.decoding}
        return len(starter.in_flight) == 1 and min(ages, key=ages.__getitem__) == llm

    @property
    def next_change(self) -> float:
        """Never."""
        return inf

    def _prefill_waits_for_compute(self, starter: JobStarter, now: float) -> bool:
        """Start the oldest prefill that can start; true if it waits for compute instead."""
        heads = {llm: queue.next_prefill for llm, queue in starter.queues.items()}
        reserved = 0
        oldest_first = sorted(filter(None, heads.values()), key=lambda sequence: sequence.order)
        for sequence in oldest_first[:1] if self._strict else oldest_first:
            if reserved and sequence.slot is None:
                continue
            shortage = starter.prefill_shortage(sequence.llm)
            if shortage is None:
                starter.start_prefill(sequence.llm, now, reserved)
                return False
            if shortage is Shortage.COMPUTE:
                return True
            if shortage is not Shortage.SLOTS:
                reserved = starter.memory.blocks_to_admit(sequence)
        return False


def _age(queue: LLMQueue) -> int:
    return min([sequence.order for sequence in queue.decoding.values()])
