"""The unit's KV memory: head blocks that LLMs of any depth, head count and head size share."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from muxjax.serving.free_list import FreeList
from muxjax.serving.llm_pages import NULL, LLMPages


class OutOfBlocksError(Exception):
    """An allocation asked for more head blocks than there are.

    Attributes:
        llm: who asked.
        needed: head blocks asked for.
        available: head blocks that it could have had.
        limit: what ran short: "quota", the LLM's own, or "pool", the unit's.
    """

    def __init__(self, llm: str, needed: int, available: int, limit: str) -> None:
        super().__init__(f"{llm!r} needs {needed} head blocks, but its {limit} has {available} left")
        self.llm = llm
        self.needed = needed
        self.available = available
        self.limit = limit


class PoolCorruptError(Exception):
    """The pool's books do not add up; the message lists how."""


def page_tokens(block_elements: int, head_dim: int) -> int:
    """Tokens of a head block of `block_elements` elements at a head size, padded to the next power of two.

    With the default 4096 elements: 128 tokens of head size 32, 64 of 64, 32 of 80 or 128, 16 of 256.
    Raises ValueError if not even one token fits.
    """
    if head_dim < 1:
        raise ValueError(f"head_dim must be at least 1, not {head_dim}")
    padded = 1 << (head_dim - 1).bit_length()
    if padded > block_elements:
        raise ValueError(f"head_dim {head_dim} (padded to {padded}) exceeds the {block_elements} elements of a block")
    return block_elements // padded


class Pool:
    """Head blocks 1 .. num_blocks - 1, each free or in one page of one LLM.

    A **head block** is the pool's atom: K and V of one KV head of one layer for a few tokens. A **page** is the
    layers x KV heads blocks that hold the same tokens of one sequence. Any block serves any layer and head of any LLM
    (MuxServe section 3.4). Block 0 and every LLM's page 0 are never allocated, so that padded table entries are
    harmless.

    Sequences are named by ids that are unique within their LLM. Methods raise KeyError for an LLM or a sequence that
    the pool does not know.
    """

    def __init__(self, num_blocks: int, block_elements: int = 4096) -> None:
        """`block_elements` is the number of elements of K, and as many of V, of a head block: a power of two."""
        if num_blocks < 2:
            raise ValueError(f"num_blocks must be at least 2 (block 0 is reserved), not {num_blocks}")
        if block_elements < 1 or block_elements & (block_elements - 1):
            raise ValueError(f"block_elements must be a power of two, not {block_elements}")
        self.num_blocks = num_blocks
        self.block_elements = block_elements
        self._free = FreeList(1, num_blocks - 1)
        self._llms: dict[str, LLMPages] = {}

    @property
    def capacity(self) -> int:
        """Head blocks that can be allocated: all but the null block."""
        return self.num_blocks - 1

    @property
    def free_blocks(self) -> int:
        """Head blocks that no LLM holds."""
        return len(self._free)

    @property
    def llms(self) -> tuple[str, ...]:
        """The LLMs that share the pool."""
        return tuple(self._llms)

    def add_llm(self, name: str, layers: int, kv_heads: int, head_dim: int, quota: int | None = None) -> None:
        """Let another LLM use the pool; `quota` in head blocks, by default the whole pool.

        Raises ValueError if the name is taken or a size is impossible.
        """
        if name in self._llms:
            raise ValueError(f"LLM {name!r} is in the pool already")
        if layers < 1 or kv_heads < 1:
            raise ValueError(f"LLM {name!r}: layers and kv_heads must be at least 1, not {layers} and {kv_heads}")
        if layers * kv_heads > self.capacity:
            raise ValueError(
                f"LLM {name!r}: a page takes {layers * kv_heads} head blocks, the pool has {self.capacity}; enlarge it"
            )
        tokens = page_tokens(self.block_elements, head_dim)
        self._llms[name] = LLMPages(
            name,
            layers=layers,
            kv_heads=kv_heads,
            page_tokens=tokens,
            capacity=self.capacity,
            quota=self._checked_quota(name, self.capacity if quota is None else quota),
        )

    def remove_llm(self, name: str) -> None:
        """Forget an LLM. Raises ValueError while it holds head blocks."""
        if used := self.used(name):
            raise ValueError(f"LLM {name!r} still holds {used} head blocks")
        del self._llms[name]

    def page_tokens(self, llm: str) -> int:
        """Tokens that a page of this LLM holds."""
        return self._llms[llm].page_tokens

    def blocks_per_page(self, llm: str) -> int:
        """Head blocks of a page of this LLM: layers x KV heads."""
        return self._llms[llm].blocks_per_page

    def max_pages(self, llm: str) -> int:
        """Page ids of this LLM are below this; the second dimension of `page_blocks`."""
        return self._llms[llm].max_pages

    def quota(self, llm: str) -> int:
        """Head blocks that this LLM may hold."""
        return self._llms[llm].quota

    def set_quota(self, llm: str, quota: int) -> None:
        """Change a quota. An LLM that holds more keeps it, but gets no more until it holds less.

        Raises ValueError unless 0 <= quota <= capacity.
        """
        self._llms[llm].quota = self._checked_quota(llm, quota)

    def used(self, llm: str) -> int:
        """Head blocks that this LLM holds; pages that its sequences share count once."""
        return self._llms[llm].blocks_used

    def allocate(self, llm: str, sequence_id: int, num_pages: int) -> None:
        """Give a sequence, new or known, so many more pages, or none at all if OutOfBlocksError is raised."""
        pages = self._llms[llm]
        pages.tables.extend(sequence_id, pages.bind(self._take(pages, num_pages)))

    def append_page(self, llm: str, sequence_ids: Sequence[int]) -> None:
        """Give each of these distinct sequences, which hold pages already, one page more.

        None gets one if OutOfBlocksError is raised.
        """
        pages = self._llms[llm]
        rows = pages.tables.rows_of(sequence_ids)
        pages.tables.append_each(rows, pages.bind(self._take(pages, len(sequence_ids))))

    def fork(self, llm: str, parent_id: int, child_id: int, num_pages: int) -> None:
        """Begin a child sequence with the parent's first `num_pages` pages, which both hold and neither may write.

        Raises ValueError if the child holds pages already or the parent has fewer.
        """
        pages = self._llms[llm]
        shared = pages.tables[parent_id][:num_pages].copy()
        if shared.size != num_pages:
            raise ValueError(f"sequence {parent_id} of {llm!r} has {shared.size} pages, fewer than {num_pages}")
        if child_id in pages.tables:
            raise ValueError(f"sequence {child_id} of {llm!r} holds pages already")
        pages.tables.extend(child_id, shared)
        pages.refcounts[shared] += 1

    def free(self, llm: str, sequence_id: int) -> None:
        """Take all its pages from a sequence; those that no other sequence shares become free."""
        pages = self._llms[llm]
        self._free.give_back(pages.release(pages.tables.remove(sequence_id)))

    def page_table(self, llm: str, sequence_id: int) -> Int32[np.ndarray, " pages"]:
        """The page ids of a sequence, in the order of its tokens."""
        return self._llms[llm].tables[sequence_id].copy()

    def page_tables(
        self, llm: str, sequence_ids: Sequence[int], width: int | None = None
    ) -> Int32[np.ndarray, "sequences width"]:
        """The page ids of several sequences, padded with the null page to `width` (default: the longest).

        Raises ValueError if a sequence has more pages than `width`.
        """
        return self._llms[llm].tables.gather(sequence_ids, width)

    def page_blocks(self, llm: str) -> Int32[np.ndarray, "layers max_pages kv_heads"]:
        """The head block of each layer, page and KV head: a live view, to read only; NULL for pages not in use."""
        return self._llms[llm].page_blocks

    def take_new_pages(self, llm: str) -> Int32[np.ndarray, " pages"]:
        """The ids, ascending, of the pages whose rows of `page_blocks` were set since the last call."""
        return self._llms[llm].take_new_pages()

    def check_integrity(self) -> None:
        """Raise PoolCorruptError unless every block is free or in one page, and pages, tables and counts agree."""
        faults = [fault for pages in self._llms.values() for fault in pages.faults()]
        owners = np.bincount(self._free.ids, minlength=self.num_blocks)
        owners[NULL] += 1  # reserved
        for pages in self._llms.values():
            blocks = pages.page_blocks[pages.page_blocks != NULL]
            owners += np.bincount(blocks, minlength=self.num_blocks)
            if blocks.size != pages.blocks_used:
                faults.append(f"{pages.name!r} counts {pages.blocks_used} head blocks but its pages hold {blocks.size}")
        faults += [f"head block {block} has {owners[block]} owners" for block in np.flatnonzero(owners != 1)]
        if faults:
            raise PoolCorruptError("; ".join(faults[:20]))

    def _take(self, pages: LLMPages, num_pages: int) -> Int32[np.ndarray, " blocks"]:
        """The free blocks for so many pages; raises OutOfBlocksError naming what runs short."""
        needed = num_pages * pages.blocks_per_page
        left = pages.quota - pages.blocks_used
        if needed > left:
            raise OutOfBlocksError(pages.name, needed, max(left, 0), "quota")
        if needed > len(self._free):
            raise OutOfBlocksError(pages.name, needed, len(self._free), "pool")
        return self._free.take(needed)

    def _checked_quota(self, llm: str, quota: int) -> int:
        if not 0 <= quota <= self.capacity:
            raise ValueError(f"LLM {llm!r}: quota must be between 0 and the pool's {self.capacity} blocks, not {quota}")
        return quota
