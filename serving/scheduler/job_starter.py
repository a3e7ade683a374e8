"""What policies see of the scheduler, and how they start jobs."""

from collections.abc import Mapping
from enum import Enum
from itertools import accumulate, islice

from muxjax.serving.scheduler.job import Chunk, Job, JobKind
from muxjax.serving.scheduler.llm_queue import LLMQueue
from muxjax.serving.scheduler.memory import Memory
from muxjax.serving.scheduler.prefill_chunks import PrefillChunks
from muxjax.serving.scheduler.sequence import Sequence, SequenceState

ROUNDING = 1e-9


class Shortage(Enum):
    """What an LLM's prefill lacks, and so who can give it."""

    SLOTS = "slots"  # its own sequences, when they end
    QUOTA = "quota"  # its own sequences, when they end
    POOL = "pool"  # any LLM's sequences
    COMPUTE = "compute"  # the jobs in flight


class JobStarter:
    """Starts jobs: at most one prefill in flight in the unit, and one decode for each LLM.

    A job is in flight from its start until `Scheduler.job_finished`. What it schedules is booked at its start:
    pages, slots and the sequences' counts.
    """

    def __init__(
        self,
        queues: Mapping[str, LLMQueue],
        memory: Memory,
        chunks: PrefillChunks,
        *,
        max_prefill_sequences: int,
        compute: float,
    ) -> None:
        self.memory = memory
        self.queues = queues
        self.in_flight: dict[tuple[str, JobKind], Job] = {}
        self.started: list[Job] = []
        self._chunks = chunks
        self._max_prefill_sequences = max_prefill_sequences
        self._compute = compute

    @property
    def prefill_in_flight(self) -> bool:
        """Whether any LLM's prefill is running."""
        return any(kind is JobKind.PREFILL for _, kind in self.in_flight)

    def has_decode(self, llm: str) -> bool:
        """Whether the LLM has sequences to decode, and none of its decodes is in flight."""
        return bool(self.queues[llm].decoding) and (llm, JobKind.DECODE) not in self.in_flight

    def decode_lacks_compute(self, llm: str) -> bool:
        """Whether the LLM's decode has to wait for jobs in flight."""
        return not self._compute_fits(self.queues[llm].share.decode_compute)

    def prefill_shortage(self, llm: str) -> Shortage | None:
        """What keeps the LLM, which has a `next_prefill`, from starting it now.

        A prompt that was begun has its slot and its pages already. For a new one, what only the LLM's own sequences
        can give is reported first, then compute, then the pool.
        """
        queue = self.queues[llm]
        sequence = queue.next_prefill
        blocks = 0
        if sequence is not None and sequence.slot is None:
            blocks = self.memory.blocks_to_admit(sequence)
            if not queue.has_slot:
                return Shortage.SLOTS
            if blocks > self.memory.quota_left(llm):
                return Shortage.QUOTA
        if not self._compute_fits(queue.share.prefill_compute):
            return Shortage.COMPUTE
        return Shortage.POOL if blocks > self.memory.pool.free_blocks else None

    def may_gather(self, llm: str, now: float) -> bool:
        """Whether new prompts of the LLM may wait for more: something decodes, and they do not fill a prefill yet."""
        queue = self.queues[llm]
        if queue.prefilling or not any(other.decoding for other in self.queues.values()):
            return False
        waiting = islice(queue.waiting, self._max_prefill_sequences)
        return sum(sequence.num_uncomputed for sequence in waiting) < self._chunks.most_tokens(llm, now)

    def start_prefill(self, llm: str, now: float, reserved: int = 0) -> Job:
        """Start the LLM's next prefill, which lacks nothing.

        The job takes as many tokens as `PrefillChunks` says, of up to max_prefill_sequences sequences: the prompt that
        was begun, then waiting ones, oldest first, as long as slots and blocks last; `reserved` blocks of the pool stay
        free. The last one may be cut.
        """
        queue = self.queues[llm]
        chunks: list[Chunk] = []
        tokens_left = int(min(self._chunks.most_tokens(llm, now), queue.most_prefill_tokens))
        while tokens_left and len(chunks) < self._max_prefill_sequences:
            sequence = queue.next_prefill
            if sequence is None:
                break
            if sequence.slot is None:
                if not self._can_admit(sequence, reserved):
                    break
                self.memory.allocate(queue.admit(now))
            chunk = self._chunk(sequence, min(sequence.num_uncomputed, tokens_left))
            tokens_left -= chunk.length
            chunks.append(chunk)
        return self._start(Job(llm, JobKind.PREFILL, tuple(chunks)))

    def start_decode(self, llm: str, reserved: int = 0) -> Job | None:
        """Start a decode of all the LLM's decoding sequences, one token each.

        Sequences that need a page and get none stay out of it; `reserved` blocks of the pool are not touched (see
        `Memory.grow`). None if no one is left.
        """
        queue = self.queues[llm]
        needy = [sequence for sequence in queue.decoding.values() if sequence.num_tokens > sequence.capacity]
        stalled = set(self.memory.grow(llm, needy, reserved)) if needy else ()
        batch = [sequence for sequence in queue.decoding.values() if sequence not in stalled]
        if not batch:
            return None
        chunks = tuple([self._chunk(sequence, 1) for sequence in batch])
        for sequence in batch:
            if sequence.is_complete:
                queue.complete(sequence)
        return self._start(Job(llm, JobKind.DECODE, chunks))

    def finish(self, job: Job) -> None:
        """The job has ended: what it held of the compute is free, and its sequences go on.

        Raises ValueError if it is not in flight.
        """
        if self.in_flight.get((job.llm, job.kind)) is not job:
            raise ValueError(f"no such {job.kind.value} job of LLM {job.llm!r} is in flight")
        del self.in_flight[job.llm, job.kind]
        queue = self.queues[job.llm]
        for chunk in job.chunks:
            sequence = chunk.sequence
            sequence.in_flight = False
            if sequence.state is not SequenceState.RUNNING:
                continue
            if job.kind is JobKind.PREFILL and chunk.samples:
                queue.prefilled(sequence)
            if chunk.samples:
                self._restart_if_long(sequence, queue.share.length_switch)

    def _restart_if_long(self, sequence: Sequence, switch: int | None) -> None:
        """Let a sequence begin again whose next token is the first of a long one: its keys are those of a short one.

        What was sampled stays.
        """
        if switch is not None and sequence.num_tokens == switch + 1 and not sequence.is_complete:
            self.memory.preempt(sequence)

    def repeat_decode(self, job: Job, steps: int) -> list[int]:
        """Book `steps` more steps of the decode in flight; return the LLM's head blocks at the start of each.

        Like so many times `finish` and `start_decode` while nothing else happens. No sequence may complete, and there
        must be blocks: see `decode_blocks`.
        """
        queue, pool = self.queues[job.llm], self.memory.pool
        used = [pool.used(job.llm)] * steps
        page_tokens, page_blocks = pool.page_tokens(job.llm), pool.blocks_per_page(job.llm)
        growths = [0] * steps
        for sequence in queue.decoding.values():
            missing = sequence.num_tokens + steps - 1 - sequence.capacity
            if missing > 0:
                pages = -(-missing // page_tokens)
                first = sequence.capacity + 1 - sequence.num_tokens
                for page in range(pages):
                    growths[first + page * page_tokens] += page_blocks
                pool.allocate(job.llm, sequence.id, pages)
                sequence.capacity += pages * page_tokens
            sequence.num_tokens += steps
            sequence.num_computed += steps
        for step, grown in enumerate(accumulate(growths)):
            used[step] += grown
        return used

    def decode_blocks(self, job: Job, steps: int) -> int:
        """Head blocks that `steps` more steps of the decode in flight would take."""
        page_tokens = self.memory.pool.page_tokens(job.llm)
        missing = (s.num_tokens + steps - 1 - s.capacity for s in self.queues[job.llm].decoding.values())
        return sum(-(-tokens // page_tokens) for tokens in missing if tokens > 0) * self.memory.pool.blocks_per_page(
            job.llm
        )

    def _chunk(self, sequence: Sequence, length: int) -> Chunk:
        """Book the sequence's next tokens; the row of its last one samples a token more."""
        start = sequence.num_computed
        sequence.num_computed = start + length
        sequence.in_flight = True
        samples = start + length == sequence.num_tokens
        if samples:
            sequence.num_tokens += 1
            sequence.unread += 1
        return Chunk(sequence, start, length, samples)

    def _start(self, job: Job) -> Job:
        self.in_flight[job.llm, job.kind] = job
        self.started.append(job)
        return job

    def _can_admit(self, sequence: Sequence, reserved: int) -> bool:
        blocks = self.memory.blocks_to_admit(sequence)
        left = min(self.memory.quota_left(sequence.llm), self.memory.pool.free_blocks - reserved)
        return self.queues[sequence.llm].has_slot and blocks <= left

    def _compute_fits(self, share: float) -> bool:
        held = sum(
            queue.share.prefill_compute if kind is JobKind.PREFILL else queue.share.decode_compute
            for queue, kind in ((self.queues[llm], kind) for llm, kind in self.in_flight)
        )
        return held + share <= self._compute + ROUNDING
