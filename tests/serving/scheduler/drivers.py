"""Random load on a scheduler, run as the engine does and as a simulator does, with every promise checked on the way."""

import heapq
import random
from collections import deque
from collections.abc import Collection, Iterator

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.errors import QueueFullError
from muxjax.serving.scheduler.job import Job, JobKind, Step
from muxjax.serving.scheduler.policies import make_policy
from muxjax.serving.scheduler.policy import Policy
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence, SequenceState
from muxjax.serving.scheduler.share import LLMShare

SHAPES = {"small": (1, 1, 32, 300), "odd": (2, 3, 80, 100), "even": (3, 2, 128, 120), "large": (4, 2, 256, 60)}
"""LLM: layers, KV heads, head size, context."""


class RandomLoad:
    """A scheduler of four unlike LLMs, and the sequences that come, end by chance, are aborted or time out.

    Attributes:
        calls: how often `schedule` was called.
        added: sequences that the scheduler took.
        ended: how often each ended.
        longest: the most calls that any sequence took from `add` to its end.
        longest_burst: the most decode steps that were booked at once.
    """

    def __init__(
        self, seed: int, policy: str | Policy, num_blocks: int, *, prefill: float = 0.0, decode: float = 0.0
    ) -> None:
        self.draw = random.Random(seed)
        self.pool = Pool(num_blocks + 1)
        shares = {}
        for llm, (layers, kv_heads, head_dim, context) in SHAPES.items():
            self.pool.add_llm(llm, layers, kv_heads, head_dim)
            shares[llm] = LLMShare(
                rate=self.draw.uniform(0.1, 10),
                max_context=context,
                max_sequences=self.draw.randint(2, 8),
                max_waiting=4,
                length_switch=context // 2 if llm == "even" else None,
                prefill_compute=prefill,
                decode_compute=decode * self.draw.uniform(0.3, 1),
            )
        self._shares = shares
        self.max_prefill_tokens = self.draw.choice([7, 32, 128])
        self.scheduler = Scheduler(
            self.pool,
            shares,
            make_policy(policy) if isinstance(policy, str) else policy,
            max_prefill_tokens=self.max_prefill_tokens,
            max_prefill_sequences=4,
        )
        self.now = 0.0
        self.calls = 0
        self.added: dict[Sequence, int] = {}
        self.ended: dict[Sequence, int] = {}
        self.longest = 0
        self.longest_burst = 0

    def arrive(self, count: int) -> None:
        """Add sequences of random LLMs, as far as the queues take them."""
        for _ in range(count):
            llm = self.draw.choice(list(self.scheduler.queues))
            context = SHAPES[llm][3]
            prompt = self.draw.randint(1, context - 1)
            length = self.draw.randint(prompt + 1, context)
            deadline = self.now + self.draw.uniform(1, 500) if self.draw.random() < 0.05 else None
            sequence = Sequence(len(self.added), llm, prompt, length, self.now, deadline)
            try:
                self.scheduler.add(sequence, self.now)
            except QueueFullError:
                continue
            self.added[sequence] = self.calls

    def abort_some(self) -> None:
        """Now and then a client goes away."""
        if self.draw.random() < 0.02 and self.added:
            sequence = self.draw.choice(list(self.added)[-30:])
            if self.scheduler.abort(sequence.id, self.now):
                self.end(sequence)

    def lose_some(self) -> Collection[str]:
        """Now and then the device loses what it held of one LLM, or of all; returns whose jobs are never read."""
        if self.draw.random() >= 0.01:
            return ()
        llms = list(self.scheduler.queues)
        lost = self.draw.choice([[llm] for llm in llms] + [llms])
        self.scheduler.restart(lost, self.now)
        for queue in (self.scheduler.queues[llm] for llm in lost):
            assert queue.num_running == 0
            assert not any(sequence.unread or sequence.num_computed for sequence in queue.waiting)
            assert all(waits.prompt_length <= waits.num_tokens < waits.max_length for waits in queue.waiting)
        return lost

    def come_and_go(self) -> None:
        """Now and then an LLM without sequences leaves, or one comes back, or becomes more or less popular."""
        if self.draw.random() >= 0.03:
            return
        llm = self.draw.choice(list(SHAPES))
        if llm not in self.scheduler.queues:
            self.pool.add_llm(llm, *SHAPES[llm][:3])
            self.scheduler.add_llm(llm, self._shares[llm])
        elif self.draw.random() < 0.5 and len(self.scheduler.queues) > 1:
            try:
                self.scheduler.remove_llm(llm)
            except ValueError:
                assert any(s.llm == llm for s in set(self.added) - set(self.ended))
                return
            self.pool.remove_llm(llm)
        else:
            self.scheduler.set_rate(llm, self.draw.uniform(0.1, 10))
        assert self.scheduler.queues.keys() == set(self.pool.llms) == self.scheduler.initial_quotas.keys()

    def schedule(self) -> Step | None:
        """Expire and schedule, and check what was scheduled."""
        for sequence in self.scheduler.expire(self.now):
            self.end(sequence)
        self.calls += 1
        before = {
            sequence.id: (sequence.num_computed, sequence.unread, sequence.state)
            for queue in self.scheduler.queues.values()
            for place in (queue.waiting, queue.prefilling.values(), queue.decoding.values())
            for sequence in place
        }
        step = self.scheduler.schedule(self.now)
        if self.calls % 20 == 0:
            self.pool.check_integrity()
            self.check_blocks()
        if step is not None:
            self.check(step, before)
        return step

    def read(self, job: Job) -> None:
        """Read a job's tokens; end the sequences that are complete, and by chance others."""
        self.scheduler.tokens_read(job)
        for chunk in job.chunks:
            sequence = chunk.sequence
            assert sequence.unread >= 0
            if chunk.samples and sequence.state is not SequenceState.FINISHED:
                complete = sequence.is_complete and not sequence.unread and not sequence.in_flight
                if complete or self.draw.random() < 0.01:
                    self.scheduler.finish(sequence, self.now)
                    self.end(sequence)

    def end(self, sequence: Sequence) -> None:
        """Note that a sequence is over: nothing of it is left."""
        self.ended[sequence] = self.ended.get(sequence, 0) + 1
        self.longest = max(self.longest, self.calls - self.added[sequence])
        assert sequence.state is SequenceState.FINISHED
        assert (sequence.slot, sequence.capacity) == (None, 0)

    def check(self, step: Step, before: dict[int, tuple[int, int, SequenceState]]) -> None:
        """A step keeps to its limits, and continues every sequence where it stood."""
        assert step.jobs
        kinds = [(job.llm, job.kind) for job in step.jobs]
        assert len(set(kinds)) == len(kinds)
        assert sum(kind is JobKind.PREFILL for _, kind in kinds) <= 1
        for job in step.jobs:
            assert job.chunks
            assert len({chunk.sequence for chunk in job.chunks}) == len(job.chunks)
            slots = [chunk.sequence.slot for chunk in job.chunks]
            assert len(set(slots)) == len(slots)
            if job.kind is JobKind.PREFILL:
                assert job.num_tokens <= self.max_prefill_tokens
                assert len(job.chunks) <= 4
            page_tokens = self.pool.page_tokens(job.llm)
            tables = self.pool.page_tables(job.llm, [chunk.sequence.id for chunk in job.chunks])
            for chunk, num_pages in zip(job.chunks, (tables > 0).sum(axis=1), strict=True):
                sequence = chunk.sequence
                computed, unread, state = before[sequence.id]
                assert (sequence.llm, sequence.state) == (job.llm, SequenceState.RUNNING)
                assert chunk.start == computed
                assert chunk.start + chunk.length <= num_pages * page_tokens == sequence.capacity
                assert job.kind is JobKind.PREFILL or (chunk.length, chunk.samples) == (1, True)
                assert not (unread and state is SequenceState.WAITING)
                assert sequence.num_tokens <= sequence.max_length
        for sequence in step.preempted:
            assert sequence.state is not SequenceState.RUNNING or sequence.preemptions

    def check_blocks(self) -> None:
        """Only running sequences hold pages."""
        for llm, queue in self.scheduler.queues.items():
            running = [*queue.prefilling.values(), *queue.decoding.values(), *queue.completing.values()]
            assert len(running) == queue.num_running <= queue.share.max_sequences
            pages = sum(sequence.capacity // self.pool.page_tokens(llm) for sequence in running)
            assert pages * self.pool.blocks_per_page(llm) == self.pool.used(llm)

    def check_end(self) -> None:
        """Nothing is lost, ended twice, or left behind."""
        assert not self.scheduler.has_unfinished
        assert self.ended == dict.fromkeys(self.added, 1)
        assert self.pool.free_blocks == self.pool.capacity
        self.pool.check_integrity()


def run_as_engine(load: RandomLoad, calls: int, max_decode_steps: int = 1) -> None:
    """Steps run in order; their tokens are read one step late. After `calls` no more arrive, and all must end."""
    unread: deque[Step] = deque()
    while load.calls < calls or load.scheduler.has_unfinished:
        load.now += 0.05
        if load.calls < calls:
            load.arrive(load.draw.choice([0, 0, 0, 1, 2]))
        load.abort_some()
        load.come_and_go()
        step = load.schedule()
        if step is not None:
            steps = load.scheduler.book_burst(step, max_decode_steps)
            load.longest_burst = max(load.longest_burst, steps)
            unread.extend([step] * steps)
        for job in step.jobs if step else ():
            load.scheduler.job_finished(job, load.now)
        assert unread or not load.scheduler.has_unfinished, "nothing runs, and nothing will change"
        lost = load.lose_some()
        unread = deque(Step(tuple(job for job in step.jobs if job.llm not in lost)) for step in unread)
        while len(unread) > 1 or (unread and step is None):
            for job in unread.popleft().jobs:
                load.read(job)


def run_as_simulator(load: RandomLoad, calls: int) -> None:
    """Jobs overlap in virtual time and end in any order."""
    ends: list[tuple[float, int, Job]] = []
    numbers = iter(range(10**9))
    while load.calls < calls or load.scheduler.has_unfinished:
        if load.calls < calls:
            load.arrive(load.draw.choice([0, 0, 0, 1, 2]))
        load.abort_some()
        for job in jobs_of(load.schedule()):
            heapq.heappush(ends, (load.now + load.draw.expovariate(10), next(numbers), job))
        assert held_compute(load, ends) <= 1 + 1e-9
        assert sum(job.kind is JobKind.PREFILL for _, _, job in ends) <= 1
        assert ends or not load.scheduler.has_unfinished, "nothing runs, and nothing will change"
        if ends:
            load.now, _, job = heapq.heappop(ends)
            load.scheduler.job_finished(job, load.now)
            load.read(job)
        else:
            load.now += 0.05


def jobs_of(step: Step | None) -> Iterator[Job]:
    """The step's jobs, if there is one."""
    return iter(step.jobs if step else ())


def held_compute(load: RandomLoad, ends: list[tuple[float, int, Job]]) -> float:
    """The compute shares of the jobs in flight."""
    shares = {llm: queue.share for llm, queue in load.scheduler.queues.items()}
    return sum(
        shares[job.llm].prefill_compute if job.kind is JobKind.PREFILL else shares[job.llm].decode_compute
        for _, _, job in ends
    )
