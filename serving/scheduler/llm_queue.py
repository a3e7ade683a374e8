"""The sequences of one LLM, by what they wait for."""

from bisect import insort
from collections.abc import Iterator
from itertools import chain
from math import inf

from muxjax.serving.scheduler.job import MIN_CHUNK_TOKENS, Job, JobKind
from muxjax.serving.scheduler.sequence import Sequence, SequenceState
from muxjax.serving.scheduler.share import LLMShare

MIN_RETRY, MAX_RETRY = 1.0, 60.0
"""Bounds, in seconds, of the hint when to try a full queue again."""


class LLMQueue:
    """One LLM's unfinished sequences, each in exactly one place:

        waiting --admit--> prefilling --prefilled--> decoding --complete--> completing
           ^------------------ requeue (preemption) -----'

    Attributes:
        llm: the LLM.
        share: its limits.
        waiting: without pages and slot; callers in turn, and each one's oldest first.
        prefilling: admitted, in order of admission; some of its tokens are not computed, or its prefill is in flight.
        decoding: one token at a time.
        completing: every token is scheduled; they keep pages and slot until the caller has read the last one.
        preemptions: how many sequences lost their pages so far.
        most_running: how many sequences may run at once now, less than its slots after the device ran out of memory.
        most_prefill_tokens: of one chunk now, likewise; infinite for no limit.
    """

    def __init__(self, llm: str, share: LLMShare) -> None:
        self.llm = llm
        self.share = share
        self.waiting: list[Sequence] = []
        self.prefilling: dict[int, Sequence] = {}
        self.decoding: dict[int, Sequence] = {}
        self.completing: dict[int, Sequence] = {}
        self.preemptions = 0
        self.most_running = share.max_sequences
        self.most_prefill_tokens = inf
        self._free_slots = list(range(share.max_sequences - 1, -1, -1))
        self._turn = 0  # of the newest admitted
        self._next_turns: dict[str | None, int] = {}
        self._last_admission = 0.0
        self._admission_gap = 0.0

    @property
    def num_running(self) -> int:
        """Sequences that hold a slot."""
        return self.share.max_sequences - len(self._free_slots)

    @property
    def has_slot(self) -> bool:
        """Whether one more sequence can be admitted."""
        return self.num_running < self.most_running

    def back_off(self, job: Job) -> bool:
        """The device had no memory for a job: halve what may run at once; false if it cannot be less.

        `recover` takes it back step by step (additive increase and multiplicative decrease: Chiu and Jain, 1989).
        """
        if job.kind is JobKind.DECODE:
            self.most_running = max(len(job.chunks) // 2, 1)
            return len(job.chunks) > 1
        self.most_prefill_tokens = max(job.num_tokens // 2, MIN_CHUNK_TOKENS)
        return job.num_tokens > MIN_CHUNK_TOKENS

    def recover(self) -> None:
        """A sequence went well: a little more may run at once again."""
        self.most_running = min(self.most_running + 1, self.share.max_sequences)
        self.most_prefill_tokens += MIN_CHUNK_TOKENS

    @property
    def next_prefill(self) -> Sequence | None:
        """Whose tokens a prefill runs first: a prompt that was begun, else the first waiting.

        None also while the first waiting one has unread tokens: their values are its input.
        """
        begun = next((sequence for sequence in self.prefilling.values() if not sequence.in_flight), None)
        if begun is None and self.waiting and not self.waiting[0].unread:
            return self.waiting[0]
        return begun

    @property
    def preemptible(self) -> Iterator[Sequence]:
        """The sequences whose pages can be taken: not those that a job is using, nor those that end anyway."""
        running = chain(self.prefilling.values(), self.decoding.values())
        return (sequence for sequence in running if not sequence.in_flight)

    @property
    def retry_after(self) -> float:
        """Seconds in which the queue empties at the pace of recent admissions."""
        return min(max(MIN_RETRY, self._admission_gap * len(self.waiting)), MAX_RETRY)

    def enqueue(self, sequence: Sequence) -> None:
        """Let a sequence wait in its place, which it keeps when it is preempted.

        Callers take turns (start-time fair queueing, Goyal et al. 1996): a caller's next turn comes after its last one,
        and not before the turn that is being served. So one that sends much waits behind its own requests only.
        """
        if sequence.turn is None:
            sequence.turn = max(self._turn, self._next_turns.get(sequence.caller, 0))
            self._next_turns[sequence.caller] = sequence.turn + 1
        insort(self.waiting, sequence, key=lambda waiting: (waiting.turn, waiting.order))

    def admit(self, now: float) -> Sequence:
        """Give the first waiting sequence a slot."""
        sequence = self.waiting.pop(0)
        self._turn = max(self._turn, sequence.turn or 0)
        sequence.slot = self._free_slots.pop()
        sequence.state = SequenceState.RUNNING
        self.prefilling[sequence.id] = sequence
        gap = now - max(self._last_admission, sequence.arrival)
        self._admission_gap += 0.1 * (gap - self._admission_gap)
        self._last_admission = now
        return sequence

    def prefilled(self, sequence: Sequence) -> None:
        """All its tokens are computed and the next one is sampled: it decodes, unless that was its last."""
        del self.prefilling[sequence.id]
        (self.completing if sequence.is_complete else self.decoding)[sequence.id] = sequence

    def complete(self, sequence: Sequence) -> None:
        """Its last token is scheduled: it decodes no more."""
        del self.decoding[sequence.id]
        self.completing[sequence.id] = sequence

    def requeue(self, sequence: Sequence) -> None:
        """Let a running sequence wait again; all its tokens are to be recomputed."""
        self.remove(sequence)
        sequence.state = SequenceState.WAITING
        sequence.num_computed = 0
        sequence.preemptions += 1
        self.preemptions += 1
        self.enqueue(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        for place in (self.prefilling, self.decoding, self.completing):
            place.pop(sequence.id, None)
        self._free_slots.append(sequence.slot)
        sequence.slot = None
