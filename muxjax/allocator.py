"""glibc's allocator, told to keep what XLA frees."""

import ctypes
import sys

# Names and numbers of <malloc.h>.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
M_ARENA_MAX = -8


def keep_freed_memory() -> None:
    """Serve large temporaries from the heap and do not give it back; call it before importing jax.

    By default glibc maps every large block anew and returns it when freed, so that XLA's CPU programs spend most of
    their time on page faults. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(M_ARENA_MAX, 1)  # other arenas are mapped anew for large blocks whatever the next lines say
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 256 * 2**20)
