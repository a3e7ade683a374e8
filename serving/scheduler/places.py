"""Who may take a place among those that are bounded in number."""

from collections.abc import Callable


def has_place(limit: int, taken: int, own: Callable[[], int] | None, count: int = 1) -> bool:
    """Whether a caller may take `count` places more, of `limit`.

    No caller may hold more places than are left free: one alone fills half of them, two a third each, so that whoever
    comes next finds some (the dynamic threshold of Choudhury and Hahne, 1998).

    Args:
        limit: places in all.
        taken: those that someone has.
        own: counts those that the caller has; None where callers are not told apart, and all places are for everyone.
        count: for how many it asks.
    """
    free = limit - taken
    if count > free:
        return False
    if own is None or taken + count <= free:
        return True
    return own() + count <= max(free, 1)
