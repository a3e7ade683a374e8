"""Which pages hold the tokens of each sequence of one LLM."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32


class PageTables:
    """The page tables of one LLM's sequences, as rows of one array, padded with the null page 0.

    With sequence 7 in pages 3, 1, 4 and sequence 9 in page 2:

        rows = [[3, 1, 4, 0],     sequence 7
                [2, 0, 0, 0],     sequence 9
                [0, 0, 0, 0]]     free

    so that growing many sequences by a page, and gathering the tables of a batch, are one indexing operation each.
    Both dimensions double when they are full.
    """

    def __init__(self, num_rows: int = 16, width: int = 8) -> None:
        self.rows = np.zeros((num_rows, width), np.int32)
        self.lengths = np.zeros(num_rows, np.int32)
        self._free_rows = list(range(num_rows))
        self._row_of: dict[int, int] = {}

    def __contains__(self, sequence_id: int) -> bool:
        return sequence_id in self._row_of

    def __getitem__(self, sequence_id: int) -> Int32[np.ndarray, " pages"]:
        """The pages of a sequence, as a view; KeyError if it holds none."""
        row = self._row_of[sequence_id]
        return self.rows[row, : self.lengths[row]]

    @property
    def sequence_ids(self) -> list[int]:
        """The sequences that hold pages."""
        return list(self._row_of)

    def extend(self, sequence_id: int, pages: Int32[np.ndarray, " pages"]) -> None:
        """Add pages to the end of one sequence's table, which begins here if it is new."""
        row = self._row_of.get(sequence_id)
        if row is None:
            row = self._new_row(sequence_id)
        start, end = int(self.lengths[row]), int(self.lengths[row]) + pages.size
        self._ensure_width(end)
        self.rows[row, start:end] = pages
        self.lengths[row] = end

    def rows_of(self, sequence_ids: Sequence[int]) -> Int32[np.ndarray, " sequences"]:
        """Where in `rows` these sequences are; KeyError if one holds no pages."""
        return np.fromiter((self._row_of[sequence_id] for sequence_id in sequence_ids), np.int32, len(sequence_ids))

    def append_each(self, rows: Int32[np.ndarray, " sequences"], pages: Int32[np.ndarray, " sequences"]) -> None:
        """Add pages[i] to the end of the table in rows[i]; the rows differ."""
        lengths = self.lengths[rows]
        self._ensure_width(int(lengths.max(initial=0)) + 1)
        self.rows[rows, lengths] = pages
        self.lengths[rows] = lengths + 1

    def remove(self, sequence_id: int) -> Int32[np.ndarray, " pages"]:
        """Forget a sequence and return the pages it held; KeyError if it holds none."""
        pages = self[sequence_id].copy()
        row = self._row_of.pop(sequence_id)
        self.rows[row, : pages.size] = 0
        self.lengths[row] = 0
        self._free_rows.append(row)
        return pages

    def gather(self, sequence_ids: Sequence[int], width: int | None = None) -> Int32[np.ndarray, "sequences width"]:
        """The tables of several sequences, each padded with 0 to `width` (default: the longest one).

        Raises KeyError for a sequence without pages and ValueError if a table is longer than `width`.
        """
        rows = self.rows_of(sequence_ids)
        longest = int(self.lengths[rows].max(initial=0))
        width = longest if width is None else width
        if longest > width:
            raise ValueError(f"a page table of {longest} pages does not fit into {width} columns")
        tables = np.zeros((len(rows), width), np.int32)
        tables[:, :longest] = self.rows[rows, :longest]
        return tables

    def _new_row(self, sequence_id: int) -> int:
        if not self._free_rows:
            num_rows = len(self.rows)
            self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
            self.lengths = np.concatenate([self.lengths, np.zeros_like(self.lengths)])
            self._free_rows.extend(range(num_rows, 2 * num_rows))
        row = self._free_rows.pop()
        self._row_of[sequence_id] = row
        return row

    def _ensure_width(self, width: int) -> None:
        while self.rows.shape[1] < width:
            self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)], axis=1)
