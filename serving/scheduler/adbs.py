"""Adaptive batch scheduling (ADBS), the policy of MuxServe."""

from collections.abc import Mapping
from collections.abc import Sequence as Series
from math import inf

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.job_starter import JobStarter, Shortage
from muxjax.serving.scheduler.quota import Usage, UsageRecord, adapt_quotas, full_context_blocks, initial_quotas
from muxjax.serving.scheduler.share import LLMShare
from muxjax.serving.scheduler.turns import Turns, start_decodes_in_turn, start_prefill_in_turn


class ADBS:
    """Alg. 3 of MuxServe, clause by clause:

    1. Quotas of head blocks start from popularity and size.
    2. If no prefill is in flight, the prefill of the next LLM in turn starts.
    3. If its resources are short, it waits for them, and
       - while it waits for compute, no decode starts: the jobs in flight will give theirs back;
       - while it waits for blocks of the pool, decodes leave it the free blocks that it needs. Sequences that can go
         on without a page do, and give their blocks back when they end. If no decode can start so and nothing is in
         flight, decodes take blocks after all (and preempt the newest for them), since nothing else would free any.
       What it lacks of slots or of its own quota only its own decodes can give back: it is passed over, and keeps
       its turn.
    4. Otherwise decodes start, LLM by LLM in turn, while compute and quotas last.
    5. Every `period` seconds quota moves from LLMs that use little of theirs to LLMs that use nearly all. An LLM whose
       next prompt waits for its quota uses all of it: what is kept for its running sequences to grow may be a large
       part, which nothing else can use.
    """

    def __init__(self, period: float = 8.0, *, passing: bool = False, gather: float = 0.0) -> None:
        """
        Args:
            period: seconds between adaptations of the quotas.
            passing: whether decodes that fit beside a prefill pass those that lack compute (`start_decodes_in_turn`).
            gather: seconds for which new prompts wait for others to share a prefill with (`start_prefill_in_turn`).
        """
        if not period > 0:
            raise ValueError(f"period must be positive, not {period}")
        self._period = period
        self._passing = passing
        self._gather = gather
        self._adapted_at: float | None = None
        self._prefill_turns = Turns()
        self._decode_turns = Turns()
        self._usage = UsageRecord()

    def initial_quotas(self, pool: Pool, shares: Mapping[str, LLMShare]) -> dict[str, int]:
        """By popularity and size."""
        return initial_quotas(pool, shares)

    def start_jobs(self, starter: JobStarter, now: float) -> None:
        """A prefill if its turn and its resources have come, and the decodes that do not stand in its way."""
        self._adapt_periodically(starter, now)
        waits = start_prefill_in_turn(starter, self._prefill_turns, now, self._gather)
        reserved = 0
        if waits is not None:
            llm, shortage = waits
            if shortage is Shortage.COMPUTE:
                return
            sequence = starter.queues[llm].next_prefill
            reserved = starter.memory.blocks_to_admit(sequence) if sequence is not None else 0
        start_decodes_in_turn(starter, self._decode_turns, reserved, passing=self._passing)
        if reserved and not starter.in_flight:
            start_decodes_in_turn(starter, self._decode_turns)
        for job in starter.started:
            if job.kind is JobKind.DECODE:
                self._usage.add(job.llm, starter.memory.pool.used(job.llm))

    def decode_repeated(self, llm: str, blocks: Series[int]) -> None:
        """Each step's use of the quota counts, and its turn."""
        self._decode_turns.served(llm)
        for used in blocks:
            self._usage.add(llm, used)

    def keeps_turn(self, starter: JobStarter, llm: str) -> bool:
        """Never: LLMs take turns."""
        return False

    @property
    def next_change(self) -> float:
        """The next adaptation of the quotas."""
        return inf if self._adapted_at is None else self._adapted_at + self._period

    def _adapt_periodically(self, starter: JobStarter, now: float) -> None:
        if self._adapted_at is None:
            self._adapted_at = now
        if now - self._adapted_at < self._period:
            return
        self._adapted_at = now
        pool = starter.memory.pool
        quotas = adapt_quotas(
            quotas={llm: pool.quota(llm) for llm in starter.queues},
            usage={llm: self._usage_of(llm, starter) for llm in starter.queues},
            floors={llm: full_context_blocks(pool, llm, queue.share) for llm, queue in starter.queues.items()},
            pages={llm: pool.blocks_per_page(llm) for llm in starter.queues},
        )
        for llm, quota in quotas.items():
            pool.set_quota(llm, quota)

    def _usage_of(self, llm: str, starter: JobStarter) -> Usage:
        """What the LLM did with its quota since the last adaptation."""
        pool, queue = starter.memory.pool, starter.queues[llm]
        blocks = self._usage.take_mean(llm, default=pool.used(llm))
        if queue.next_prefill is not None and starter.prefill_shortage(llm) is Shortage.QUOTA:
            blocks = max(blocks, pool.quota(llm))
        return Usage(blocks, waits=bool(queue.waiting))
