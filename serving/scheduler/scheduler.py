"""Which LLM's jobs run next, on which pages: no JAX, and the time is an argument."""

import heapq
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Series
from dataclasses import replace
from functools import partial

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.errors import NeverFitsError, QueueFullError
from muxjax.serving.scheduler.job import Job, JobKind, Step
from muxjax.serving.scheduler.job_starter import JobStarter, Shortage
from muxjax.serving.scheduler.job_times import JobTimes
from muxjax.serving.scheduler.llm_queue import LLMQueue
from muxjax.serving.scheduler.memory import Memory
from muxjax.serving.scheduler.places import has_place
from muxjax.serving.scheduler.policy import Policy
from muxjax.serving.scheduler.prefill_chunks import PrefillChunks
from muxjax.serving.scheduler.quota import fairness_gap, full_context_blocks, initial_quotas
from muxjax.serving.scheduler.sequence import Sequence, SequenceState
from muxjax.serving.scheduler.share import LLMShare


class Scheduler:
    """The unit's sequences, from `add` until they are finished, aborted or expired.

    Its caller runs this cycle, on a device or in virtual time:

        expired = scheduler.expire(now)          # deadlines that have passed
        step = scheduler.schedule(now)           # jobs start: their pages, slots and counts are booked
        ... run step.jobs ...
        scheduler.job_finished(job, now)         # for each job: on a device, which runs its work in order, at once
        ... read the sampled tokens ...
        scheduler.tokens_read(job)               # for each job
        scheduler.finish(sequence, now)          # for each sequence that is complete, or was found to have ended

    A sequence is decoded on while its last tokens are unread. It ends only by `finish`, `abort` and `expire`; its pages
    are free at once, even if a job in flight still uses them, because later work on the device runs later.

    Who cannot run a job calls `job_finished` all the same and then aborts the sequences in it.

    No one starves: within an LLM callers start sequences in turn, each in order of arrival, policies let every LLM have
    its turn, and only newer sequences are preempted for older ones.

    Attributes:
        pool: the unit's head blocks: their use and the quotas.
        queues: each LLM's sequences by state, to read only: what waits, what runs, how many were preempted.
        initial_quotas: each LLM's head blocks by popularity and size, before any were lent; to read only.
    """

    def __init__(
        self,
        pool: Pool,
        llms: Mapping[str, LLMShare],
        policy: Policy,
        *,
        max_prefill_tokens: int = 2048,
        max_prefill_sequences: int = 32,
        max_waiting: int = 1 << 20,
        compute: float = 1.0,
        growth_room: bool = True,
    ) -> None:
        """Set the quotas of `llms`, all in the pool already, to the policy's.

        Args:
            pool: the unit's head blocks.
            llms: the limits of each LLM.
            policy: chooses the jobs; not shared with another scheduler.
            max_prefill_tokens: the most tokens of one prefill job; fewer where LLMs promise times between tokens.
            max_prefill_sequences: the most sequences of one prefill job.
            max_waiting: the most sequences that wait, of all LLMs together.
            compute: the sum of the compute shares that jobs in flight may hold; 1.2 lets them overlap by a fifth.
            growth_room: whether a prompt is admitted only if a page is left for each running sequence of its LLM.

        Raises:
            ValueError: a limit is below 1, an LLM is not in the pool, or one job alone needs more compute.
        """
        if max_prefill_tokens < 1 or max_prefill_sequences < 1:
            raise ValueError(
                "max_prefill_tokens and max_prefill_sequences must be at least 1, "
                f"not {max_prefill_tokens} and {max_prefill_sequences}"
            )
        self.pool = pool
        self._compute = compute
        for llm, share in llms.items():
            self._check_share(llm, share)
        self.queues = {llm: LLMQueue(llm, share) for llm, share in llms.items()}
        self._memory = Memory(pool, self.queues, growth_room=growth_room)
        self._times = JobTimes()
        self._starter = JobStarter(
            self.queues,
            self._memory,
            PrefillChunks(self.queues, self._times, max_prefill_tokens),
            max_prefill_sequences=max_prefill_sequences,
            compute=compute,
        )
        self._policy = policy
        self._max_waiting = max_waiting
        self._sequences: dict[int, Sequence] = {}
        self._deadlines: list[tuple[float, int, Sequence]] = []
        self._arrivals = 0
        self._entitle()

    def add_llm(self, llm: str, share: LLMShare) -> None:
        """Schedule an LLM more, which is in the pool already; all quotas are made anew.

        Raises ValueError as the constructor does, and for an LLM that is there already.
        """
        if llm in self.queues:
            raise ValueError(f"LLM {llm!r} is in the scheduler already")
        self._check_share(llm, share)
        self.queues[llm] = LLMQueue(llm, share)
        self._entitle()

    def remove_llm(self, llm: str) -> None:
        """Forget an LLM; all quotas are made anew. Raises ValueError while it has sequences or jobs in flight."""
        if any(sequence.llm == llm for sequence in self._sequences.values()):
            raise ValueError(f"LLM {llm!r} has unfinished sequences")
        if any(busy == llm for busy, _ in self._starter.in_flight):
            raise ValueError(f"jobs of LLM {llm!r} are in flight")
        del self.queues[llm]
        self._times.forget(llm)
        self._entitle()

    def set_rate(self, llm: str, rate: float) -> None:
        """Change an LLM's popularity; all quotas are made anew. Raises ValueError unless it is positive and finite."""
        queue = self.queues[llm]
        queue.share = replace(queue.share, rate=rate)
        self._entitle()

    def set_quota(self, llm: str, quota: int) -> None:
        """Change an LLM's quota, from where the policy goes on.

        Raises ValueError for more than the pool, or less than one sequence of its longest context.
        """
        least = full_context_blocks(self.pool, llm, self.queues[llm].share)
        if not least <= quota <= self.pool.capacity:
            raise ValueError(
                f"the quota of {llm!r} must lie between {least} head blocks, one sequence of its longest context, "
                f"and the pool's {self.pool.capacity}, not be {quota}"
            )
        self.pool.set_quota(llm, quota)

    def _entitle(self) -> None:
        """Set quotas by popularity and size."""
        shares = {llm: queue.share for llm, queue in self.queues.items()}
        self._entitlements = initial_quotas(self.pool, shares)
        self.initial_quotas = self._policy.initial_quotas(self.pool, shares)
        for llm, quota in self.initial_quotas.items():
            self.pool.set_quota(llm, quota)

    def _check_share(self, llm: str, share: LLMShare) -> None:
        if llm not in self.pool.llms:
            raise ValueError(f"LLM {llm!r} is not in the pool; add it there first")
        if max(share.prefill_compute, share.decode_compute) > self._compute:
            raise ValueError(
                f"LLM {llm!r}: a job takes more than all the compute of the unit, {self._compute}: {share}"
            )

    def add(self, sequence: Sequence, now: float) -> None:
        """Let a new sequence wait for its LLM; see `add_all`."""
        self.add_all([sequence], now)

    def add_all(self, sequences: Series[Sequence], now: float) -> None:
        """Let new sequences of one LLM wait, or none of them.

        Raises:
            KeyError: there is no such LLM.
            ValueError: an id is taken, or there is nothing to generate.
            NeverFitsError: a sequence exceeds the LLM's context or the pool.
            QueueFullError: more would wait than the LLM or the unit allows, or than their caller may have wait.
        """
        queue = self.queues[sequences[0].llm]
        for sequence in sequences:
            self._check(sequence)
        self._check_places(queue, sequences)
        for sequence in sequences:
            self._arrivals += 1
            sequence.order = self._arrivals
            self._sequences[sequence.id] = sequence
            queue.enqueue(sequence)
            if sequence.deadline is not None:
                heapq.heappush(self._deadlines, (sequence.deadline, sequence.order, sequence))

    def schedule(self, now: float) -> Step | None:
        """Start the jobs that the policy wants to run now; None if there are none."""
        self._starter.started = []
        self._policy.start_jobs(self._starter, now)
        if not self._starter.started:
            return None
        step = Step(tuple(self._starter.started), tuple(self._memory.preempted))
        self._memory.preempted = []
        return step

    def repeatable_steps(self, job: Job) -> int:
        """How many more steps the decode in flight goes on as it is, unless something arrives or its policy changes.

        That ends when one of its sequences completes, or blocks might run short. 0 while a prefill waits for what any
        job may give back: compute, or blocks of the pool; or while another decode waits whose turn would come.
        """
        queue = self.queues[job.llm]
        if queue.completing or len(queue.decoding) != len(job.chunks):
            return 0
        waits = any(map(self._starter.has_decode, self.queues))
        if waits and not self._policy.keeps_turn(self._starter, job.llm):
            return 0
        for llm, other in self.queues.items():
            shortage = other.next_prefill and not self._starter.prefill_in_flight
            if shortage and self._starter.prefill_shortage(llm) in (None, Shortage.COMPUTE, Shortage.POOL):
                return 0
        steps = min(_steps_left(sequence, queue.share.length_switch) for sequence in queue.decoding.values())
        room = min(self._memory.quota_left(job.llm), self.pool.free_blocks // len(self.queues))
        while steps > 0 and self._starter.decode_blocks(job, steps) > room:
            steps //= 2
        return max(steps, 0)

    def repeat_decode(self, job: Job, steps: int) -> None:
        """Book so many more steps, at most `repeatable_steps`, of a decode in flight, and that their tokens are read.

        The same as finishing the job and scheduling it again, for simulators that need not see each step.
        """
        self._policy.decode_repeated(job.llm, self._starter.repeat_decode(job, steps))

    def book_burst(self, step: Step, most: int) -> int:
        """Book more decodes like those of a step in flight, while nothing waits for a decision.

        Their pages are booked ahead. Nothing may be scheduled until the device has them all, and the tokens of each are
        read, and booked by `tokens_read`, like those of a step by itself.

        Returns:
            How many steps there are now, the first one counted: from 1 to `most`.
        """
        if most == 1:
            return 1
        busy = {job.llm for job in step.jobs if job.kind is JobKind.DECODE}
        if len(busy) < len(step.jobs) or any(queue.decoding and llm not in busy for llm, queue in self.queues.items()):
            return 1
        more = min(most - 1, *(self.repeatable_steps(job) for job in step.jobs))
        for job in step.jobs if more > 0 else ():
            self.repeat_decode(job, more)
            for chunk in job.chunks:
                chunk.sequence.unread += more
        return 1 + max(more, 0)

    @property
    def next_change(self) -> float:
        """When the policy will decide otherwise, whatever arrives; infinity: never."""
        return self._policy.next_change

    def job_finished(self, job: Job, now: float) -> None:
        """A job has ended: its compute is free, and its sequences may go on. ValueError if it is not in flight."""
        self._starter.finish(job)

    def jobs_took(self, jobs: Series[Job], seconds: float) -> list[float]:
        """Jobs that ended together took so long; returns each one's part. It decides how large prefills may be."""
        return self._times.learn(jobs, seconds)

    def tokens_read(self, job: Job) -> None:
        """The values of the tokens that a job sampled are known now."""
        for chunk in job.chunks:
            if chunk.samples:
                chunk.sequence.unread -= 1

    def finish(self, sequence: Sequence, now: float) -> None:
        """The sequence has ended: its pages and its slot are free. ValueError if it is not in the scheduler."""
        if self._sequences.get(sequence.id) is not sequence:
            raise ValueError(f"sequence {sequence.id} is not in the scheduler")
        del self._sequences[sequence.id]
        self.queues[sequence.llm].remove(sequence)
        self._memory.free(sequence)
        sequence.state = SequenceState.FINISHED
        if sequence.num_tokens > sequence.prompt_length:
            self.queues[sequence.llm].recover()

    def abort(self, sequence_id: int, now: float) -> Sequence | None:
        """End a sequence early and return it; None if the id is unknown or has ended."""
        sequence = self._sequences.get(sequence_id)
        if sequence is not None:
            self.finish(sequence, now)
        return sequence

    def expire(self, now: float) -> list[Sequence]:
        """End and return the sequences whose deadlines have passed."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            sequence = heapq.heappop(self._deadlines)[2]
            if sequence.state is not SequenceState.FINISHED:
                self.finish(sequence, now)
                expired.append(sequence)
        return expired

    def restart(self, llms: Collection[str], now: float) -> None:
        """The device lost what it held of these LLMs: what ran waits again, and tokens not yet read are forgotten.

        None of their jobs may be in flight, and the tokens of those that were are never read. Raises ValueError.
        """
        if busy := [llm for llm, _ in self._starter.in_flight if llm in llms]:
            raise ValueError(f"jobs of LLM {busy[0]!r} are in flight")
        for sequence in self._sequences.values():
            if sequence.llm not in llms:
                continue
            sequence.num_tokens -= sequence.unread
            sequence.unread = 0
            if sequence.slot is not None:
                self._memory.free(sequence)
                self.queues[sequence.llm].requeue(sequence)

    def back_off(self, job: Job) -> bool:
        """The device had no memory for a job: the next ones of its LLM are half as large, for a while.

        Returns whether they can be: false for the smallest ones. What ran is to be restarted.
        """
        return self.queues[job.llm].back_off(job)

    @property
    def has_unfinished(self) -> bool:
        """Whether any sequence waits or runs."""
        return bool(self._sequences)

    @property
    def next_deadline(self) -> float | None:
        """When `expire` may have something to do next; None: never."""
        return self._deadlines[0][0] if self._deadlines else None

    def fairness_gap(self) -> float:
        """max |R_i - R_j| over the LLMs that have sequences; R: head blocks used over those due (see quota.py)."""
        used = {llm: self.pool.used(llm) for llm, queue in self.queues.items() if queue.waiting or queue.num_running}
        return fairness_gap(used, self._entitlements)

    def _check_places(self, queue: LLMQueue, sequences: Series[Sequence]) -> None:
        """Raises QueueFullError."""
        caller = sequences[0].caller
        for name, queues, limit in (
            (f"the queue of LLM {queue.llm!r}", (queue,), queue.share.max_waiting),
            ("the queue of all LLMs", tuple(self.queues.values()), self._max_waiting),
        ):
            taken = sum(len(some.waiting) for some in queues)
            own = partial(_waiting_of, caller, queues) if caller is not None else None
            if not has_place(limit, taken, own, len(sequences)):
                reason = f"{name} is full ({limit} sequences wait)"
                if taken + len(sequences) <= limit:
                    reason = f"{name} keeps its last {limit - taken} places for other callers"
                raise QueueFullError(queue.llm, reason, queue.retry_after)

    def _check(self, sequence: Sequence) -> None:
        """Raise what `add_all` raises for this sequence alone."""
        if sequence.id in self._sequences:
            raise ValueError(f"a sequence with id {sequence.id} is in the scheduler already")
        if not 0 < sequence.prompt_length < sequence.max_length:
            raise ValueError(
                f"sequence {sequence.id}: prompt_length {sequence.prompt_length} must be at least 1 "
                f"and below max_length {sequence.max_length}"
            )
        max_context = self.queues[sequence.llm].share.max_context
        if sequence.max_length > max_context:
            raise NeverFitsError(
                f"sequence {sequence.id} may reach {sequence.max_length} tokens, but LLM {sequence.llm!r} is served "
                f"with a context of {max_context}"
            )
        blocks = self._memory.blocks_for(sequence.llm, sequence.max_length - 1)  # the last token is never computed
        if blocks > self.pool.capacity:
            raise NeverFitsError(
                f"sequence {sequence.id} of LLM {sequence.llm!r} may need {blocks} head blocks, "
                f"but the pool has {self.pool.capacity}; ask for fewer tokens or enlarge the pool"
            )


def _steps_left(sequence: Sequence, switch: int | None) -> int:
    """Decodes after the one that is booked before the sequence completes, or has to begin again as a long one."""
    steps = sequence.max_length - sequence.num_tokens - 1
    if switch is not None and sequence.num_tokens <= switch + 1:
        steps = min(steps, switch + 1 - sequence.num_tokens)
    return steps


def _waiting_of(caller: str, queues: Series[LLMQueue]) -> int:
    return sum(sequence.caller == caller for queue in queues for sequence in queue.waiting)
