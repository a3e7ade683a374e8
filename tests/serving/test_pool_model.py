"""Random operations on the pool, against a model of lists and sets."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from muxjax.serving.pool import OutOfBlocksError, Pool

SHAPES = {"small": (1, 1, 32), "odd": (2, 3, 80), "even": (3, 2, 128), "large": (4, 4, 256)}
"""LLM: layers, KV heads, head size."""


class PoolMachine(RuleBasedStateMachine):
    """The model: each sequence's pages; who holds a page is whoever lists it."""

    @initialize(num_blocks=st.integers(20, 400))
    def make(self, num_blocks: int) -> None:
        self.pool = Pool(num_blocks)
        self.pages: dict[tuple[str, int], list[int]] = {}
        self.quotas: dict[str, int] = {}
        self.device_tables: dict[str, np.ndarray] = {}
        self.next_id = 0
        for llm, (layers, kv_heads, head_dim) in SHAPES.items():
            self.pool.add_llm(llm, layers, kv_heads, head_dim)
            self.quotas[llm] = num_blocks - 1
            self.device_tables[llm] = np.zeros_like(self.pool.page_blocks(llm))

    def held(self, llm: str) -> set[int]:
        return {page for (name, _), pages in self.pages.items() if name == llm for page in pages}

    def used(self, llm: str) -> int:
        return len(self.held(llm)) * self.pool.blocks_per_page(llm)

    def room(self, llm: str) -> int:
        """How many pages the LLM can still have."""
        free = self.pool.capacity - sum(map(self.used, SHAPES))
        return min(self.quotas[llm] - self.used(llm), free) // self.pool.blocks_per_page(llm)

    def record(self, llm: str, sequence_id: int, num_pages: int) -> None:
        """Extend the model's pages by what the pool gave, which must be pages that no one held."""
        table = self.pool.page_table(llm, sequence_id).tolist()
        old = self.pages.get((llm, sequence_id), [])
        new = table[len(old) :]
        assert table[: len(old)] == old
        assert len(new) == num_pages
        assert not self.held(llm) & set(new)
        self.pages[llm, sequence_id] = table

    @rule(llm=st.sampled_from(list(SHAPES)), num_pages=st.integers(1, 12))
    def begin(self, llm: str, num_pages: int) -> None:
        self.next_id += 1
        if num_pages > self.room(llm):
            with pytest.raises(OutOfBlocksError):
                self.pool.allocate(llm, self.next_id, num_pages)
        else:
            self.pool.allocate(llm, self.next_id, num_pages)
            self.record(llm, self.next_id, num_pages)

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), num_pages=st.integers(1, 5))
    def extend(self, data: st.DataObject, num_pages: int) -> None:
        llm, sequence_id = data.draw(st.sampled_from(sorted(self.pages)))
        if num_pages > self.room(llm):
            with pytest.raises(OutOfBlocksError):
                self.pool.allocate(llm, sequence_id, num_pages)
        else:
            self.pool.allocate(llm, sequence_id, num_pages)
            self.record(llm, sequence_id, num_pages)

    @rule(llm=st.sampled_from(list(SHAPES)), data=st.data())
    def append_page_to_many(self, llm: str, data: st.DataObject) -> None:
        ids = sorted(sequence_id for name, sequence_id in self.pages if name == llm)
        chosen = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
        if len(chosen) > self.room(llm):
            with pytest.raises(OutOfBlocksError):
                self.pool.append_page(llm, chosen)
        else:
            self.pool.append_page(llm, chosen)
            for sequence_id in chosen:
                self.record(llm, sequence_id, 1)

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        llm, parent = data.draw(st.sampled_from(sorted(self.pages)))
        num_pages = data.draw(st.integers(1, len(self.pages[llm, parent])))
        self.next_id += 1
        self.pool.fork(llm, parent, self.next_id, num_pages)
        self.pages[llm, self.next_id] = self.pages[llm, parent][:num_pages]

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        llm, sequence_id = data.draw(st.sampled_from(sorted(self.pages)))
        self.pool.free(llm, sequence_id)
        del self.pages[llm, sequence_id]

    @rule(llm=st.sampled_from(list(SHAPES)), share=st.floats(0, 1))
    def set_quota(self, llm: str, share: float) -> None:
        self.quotas[llm] = int(share * self.pool.capacity)
        self.pool.set_quota(llm, self.quotas[llm])

    @rule(llm=st.sampled_from(list(SHAPES)))
    def update_device_table(self, llm: str) -> None:
        """A copy that is told only of new pages knows the blocks of every page in use."""
        new = self.pool.take_new_pages(llm)
        self.device_tables[llm][:, new] = self.pool.page_blocks(llm)[:, new]
        held = sorted(self.held(llm))
        np.testing.assert_array_equal(self.device_tables[llm][:, held], self.pool.page_blocks(llm)[:, held])

    @invariant()
    def agrees(self) -> None:
        self.pool.check_integrity()
        for llm in SHAPES:
            assert self.pool.used(llm) == self.used(llm)
        assert self.pool.free_blocks == self.pool.capacity - sum(map(self.used, SHAPES))
        for llm, sequence_id in self.pages:
            assert self.pool.page_table(llm, sequence_id).tolist() == self.pages[llm, sequence_id]

    @invariant()
    def gathers_padded_tables(self) -> None:
        for llm in SHAPES:
            ids = [sequence_id for name, sequence_id in self.pages if name == llm]
            width = max((len(self.pages[llm, i]) for i in ids), default=0) + 1
            tables = self.pool.page_tables(llm, ids, width).tolist()
            assert tables == [(self.pages[llm, i] + [0] * width)[:width] for i in ids]


def test_pool_agrees_with_the_model_over_thousands_of_operations() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        PoolMachine, settings=settings(max_examples=60, stateful_step_count=60, deadline=None, derandomize=True)
    )
