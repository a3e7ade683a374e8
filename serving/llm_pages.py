"""One LLM's pages: which head blocks make up each, and who holds it."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32

from muxjax.serving.free_list import FreeList
from muxjax.serving.page_table import PageTables

NULL = 0
"""The block and, for each LLM, the page that is never allocated: what padded table entries point to."""


class LLMPages:
    """One LLM's view of the pool, with the page as its unit.

    A page holds `page_tokens` tokens of one sequence: `blocks_per_page` head blocks, one for each layer and KV head.

    Attributes:
        name: the LLM.
        page_tokens: tokens of a page: those of a head block at this LLM's head size, padded to a power of two.
        blocks_per_page: layers x KV heads.
        max_pages: page ids run from 0, the null page, to max_pages - 1.
        quota: head blocks that it may hold.
        page_blocks: the blocks of each page, int32 [layers, max_pages, kv_heads]; of a page not in use, NULL.
        refcounts: in how many sequences' tables each page is, int32 [max_pages].
        tables: the page tables of its sequences.
        free: the page ids not in use.
    """

    def __init__(self, name: str, *, layers: int, kv_heads: int, page_tokens: int, capacity: int, quota: int) -> None:
        """`capacity` is the number of head blocks in the pool: with none of another LLM, it may hold them all."""
        self.name = name
        self.page_tokens = page_tokens
        self.blocks_per_page = layers * kv_heads
        self.max_pages = capacity // self.blocks_per_page + 1
        self.quota = quota
        self.page_blocks = np.full((layers, self.max_pages, kv_heads), NULL, np.int32)
        self.refcounts = np.zeros(self.max_pages, np.int32)
        self.tables = PageTables()
        self.free = FreeList(1, self.max_pages - 1)
        self._new_pages: list[Int32[np.ndarray, " pages"]] = []

    @property
    def blocks_used(self) -> int:
        """Head blocks it holds; a page that sequences share counts once."""
        return (self.max_pages - 1 - len(self.free)) * self.blocks_per_page

    def bind(self, blocks: Int32[np.ndarray, " blocks"]) -> Int32[np.ndarray, " pages"]:
        """Turn blocks (a multiple of blocks_per_page) into pages, each with one holder."""
        layers, _, kv_heads = self.page_blocks.shape
        pages = self.free.take(blocks.size // self.blocks_per_page)
        self.page_blocks[:, pages] = blocks.reshape(layers, pages.size, kv_heads)
        self.refcounts[pages] = 1
        self._new_pages.append(pages)
        return pages

    def release(self, pages: Int32[np.ndarray, " pages"]) -> Int32[np.ndarray, " blocks"]:
        """Take one holder from each of these distinct pages; return the blocks of those that have none left."""
        self.refcounts[pages] -= 1
        unheld = pages[self.refcounts[pages] == 0]
        blocks = self.page_blocks[:, unheld].reshape(-1)
        self.page_blocks[:, unheld] = NULL
        self.free.give_back(unheld)
        return blocks

    def take_new_pages(self) -> Int32[np.ndarray, " pages"]:
        """The pages whose blocks changed since the last call, ascending; of those freed again, NULL."""
        new = np.unique(np.concatenate(self._new_pages)) if self._new_pages else np.empty(0, np.int32)
        self._new_pages.clear()
        return new

    def faults(self) -> Iterator[str]:
        """What is inconsistent within this LLM's pages."""
        holders = np.zeros(self.max_pages, np.int32)
        for sequence_id in self.tables.sequence_ids:
            pages = self.tables[sequence_id]
            if np.unique(pages).size != pages.size:
                yield f"sequence {sequence_id} of {self.name!r} holds a page twice: {pages.tolist()}"
            np.add.at(holders, pages, 1)
        if int(holders.sum()) != int(self.tables.lengths.sum()) or np.count_nonzero(self.tables.rows) != holders.sum():
            yield f"page tables of {self.name!r} list pages past their lengths, or the null page within them"
        for page in np.flatnonzero(holders != self.refcounts):
            yield f"page {page} of {self.name!r} has {self.refcounts[page]} references but is in {holders[page]} tables"
        is_free = np.bincount(self.free.ids, minlength=self.max_pages)
        is_free[NULL] += 1  # neither held nor taken
        for page in np.flatnonzero(is_free + (self.refcounts > 0) != 1):
            yield f"page {page} of {self.name!r} is not exactly one of free and held"
        null_blocks = (self.page_blocks == NULL).any(axis=(0, 2))
        for page in np.flatnonzero((self.refcounts > 0) & null_blocks):
            yield f"page {page} of {self.name!r} is held but lacks blocks"
