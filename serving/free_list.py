"""Free ids as a stack in one array."""

import numpy as np
from jaxtyping import Int32


class FreeList:
    """The free ids among first .. first + count - 1.

    Taking or giving back any number of ids is one slice copy. The lowest ids are taken first, and the ids given back
    last are taken next, so that a lightly loaded pool stays in few, dense pages.
    """

    def __init__(self, first: int, count: int) -> None:
        self._stack = np.arange(first + count - 1, first - 1, -1, dtype=np.int32)
        self._size = count

    def __len__(self) -> int:
        return self._size

    def take(self, count: int) -> Int32[np.ndarray, " count"]:
        """Remove `count` ids; the caller has checked that there are so many."""
        self._size -= count
        return self._stack[self._size : self._size + count][::-1].copy()

    def give_back(self, ids: Int32[np.ndarray, " count"]) -> None:
        """Add ids that were taken before."""
        self._stack[self._size : self._size + ids.size] = ids[::-1]
        self._size += ids.size

    @property
    def ids(self) -> Int32[np.ndarray, " free"]:
        """All free ids, in no order."""
        return self._stack[: self._size]
