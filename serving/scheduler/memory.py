"""Who gets head blocks, and who gives them back when they run short."""

from collections.abc import Mapping

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.llm_queue import LLMQueue
from muxjax.serving.scheduler.sequence import Sequence


class Memory:
    """The pool as the scheduler uses it.

    A sequence gets the pages of all its tokens when it is admitted, so that a prefill never stalls half-way, and then
    page by page as it decodes. When blocks run short, running sequences **newer** than the one that needs them are
    preempted, newest first: they lose their pages and recompute them later. If the LLM's quota is short, its own
    sequences are preempted; if the pool is short, those of LLMs above their quotas if there are any, else of all.

    So the oldest sequence of the unit can always go on, as soon as jobs in flight and sequences that end have given
    their blocks back: there is progress, and everyone becomes the oldest some day.
    """

    def __init__(self, pool: Pool, queues: Mapping[str, LLMQueue], *, growth_room: bool = True) -> None:
        self.pool = pool
        self.preempted: list[Sequence] = []
        self._queues = queues
        self._growth_room = growth_room

    def blocks_for(self, llm: str, num_tokens: int) -> int:
        """Head blocks of the pages that hold so many tokens."""
        return -(-num_tokens // self.pool.page_tokens(llm)) * self.pool.blocks_per_page(llm)

    def quota_left(self, llm: str) -> int:
        """Head blocks until the LLM's quota; negative above it."""
        return self.pool.quota(llm) - self.pool.used(llm)

    def blocks_to_admit(self, sequence: Sequence) -> int:
        """Head blocks that must be free to admit a sequence.

        Those of its tokens and, with `growth_room`, a page for each running sequence of its LLM: otherwise it would be
        preempted at once, when they grow.
        """
        growing = self._queues[sequence.llm].num_running if self._growth_room else 0
        return self.blocks_for(sequence.llm, sequence.num_tokens) + growing * self.pool.blocks_per_page(sequence.llm)

    def allocate(self, sequence: Sequence) -> None:
        """Give a sequence the pages of all its tokens."""
        page_tokens = self.pool.page_tokens(sequence.llm)
        num_pages = -(-sequence.num_tokens // page_tokens)
        self.pool.allocate(sequence.llm, sequence.id, num_pages)
        sequence.capacity = num_pages * page_tokens

    def free(self, sequence: Sequence) -> None:
        """Take its pages, if it has any."""
        if sequence.capacity:
            self.pool.free(sequence.llm, sequence.id)
            sequence.capacity = 0

    def preempt(self, sequence: Sequence) -> None:
        """Take a running sequence's pages, and let it wait to be computed again."""
        self.free(sequence)
        self._queues[sequence.llm].requeue(sequence)
        self.preempted.append(sequence)

    def grow(self, llm: str, needy: list[Sequence], reserved: int) -> list[Sequence]:
        """Give each of these sequences of one LLM a page more, the oldest first.

        Args:
            llm: the LLM.
            needy: its sequences whose pages are full.
            reserved: free blocks to leave for someone who waits for them; then no one is preempted either.

        Returns:
            Those that stay without; some may have been preempted.
        """
        if not reserved:
            self._preempt_for(llm, needy)
        needy = sorted((sequence for sequence in needy if sequence.capacity), key=lambda sequence: sequence.order)
        blocks = min(self.quota_left(llm), self.pool.free_blocks - reserved)
        fitting = max(blocks, 0) // self.pool.blocks_per_page(llm)
        growing = needy[:fitting]
        if growing:
            self.pool.append_page(llm, [sequence.id for sequence in growing])
            page_tokens = self.pool.page_tokens(llm)
            for sequence in growing:
                sequence.capacity += page_tokens
        return needy[fitting:]

    def _preempt_for(self, llm: str, needy: list[Sequence]) -> None:
        """Preempt until every needy sequence that is left can have a page, or no one newer is left."""
        oldest = min(sequence.order for sequence in needy)
        missing = len(needy) * self.pool.blocks_per_page(llm)
        while missing > min(self.quota_left(llm), self.pool.free_blocks):
            victim = self._newest(llm if missing > self.quota_left(llm) else None, oldest)
            if victim is None:
                return
            if victim in needy:
                missing -= self.pool.blocks_per_page(llm)
            self.preempt(victim)

    def _newest(self, llm: str | None, than: int) -> Sequence | None:
        """The newest preemptible sequence, of one LLM or of all, if it is newer than that place in the order."""
        if llm is not None:
            hosts = [self._queues[llm]]
        else:
            above_quota = [queue for name, queue in self._queues.items() if self.quota_left(name) < 0]
            hosts = above_quota or list(self._queues.values())
        newest = max(
            (sequence for queue in hosts for sequence in queue.preemptible),
            key=lambda sequence: sequence.order,
            default=None,
        )
        return newest if newest is not None and newest.order > than else None
