"""How the pool's head blocks are shared out among LLMs, and how the shares follow the load."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.share import LLMShare


def full_context_blocks(pool: Pool, llm: str, share: LLMShare) -> int:
    """Head blocks of one sequence of the longest context, at most the pool's capacity in whole pages."""
    pages = min(-(-share.max_context // pool.page_tokens(llm)), pool.max_pages(llm) - 1)
    return pages * pool.blocks_per_page(llm)


def initial_quotas(pool: Pool, shares: Mapping[str, LLMShare]) -> dict[str, int]:
    """Quotas in head blocks by popularity and size: in proportion to rate x head blocks of a token.

    An LLM whose part is less than one sequence of its longest context gets that much, and the others share the rest.
    Where the pool is too small for one such sequence of every LLM, each gets that much all the same: then the quotas
    add up to more than the pool, and preemption settles who goes first.
    """
    floors = {llm: full_context_blocks(pool, llm, share) for llm, share in shares.items()}
    weights = {llm: share.rate * pool.blocks_per_page(llm) / pool.page_tokens(llm) for llm, share in shares.items()}
    quotas: dict[str, int] = {}
    while len(quotas) < len(shares):
        rest = {llm: weight for llm, weight in weights.items() if llm not in quotas}
        blocks = max(pool.capacity - sum(quotas.values()), 0)
        parts = {llm: int(blocks * weight / sum(rest.values())) for llm, weight in rest.items()}
        too_small = {llm: floors[llm] for llm, part in parts.items() if part < floors[llm]}
        quotas |= too_small or parts
    return {llm: quotas[llm] for llm in shares}


@dataclass(frozen=True, slots=True)
class Usage:
    """What an LLM did with its quota since the last adaptation.

    Attributes:
        blocks: head blocks it held, the mean over its decodes.
        waits: whether requests wait for it.
    """

    blocks: float
    waits: bool


def adapt_quotas(
    quotas: Mapping[str, int],
    usage: Mapping[str, Usage],
    floors: Mapping[str, int],
    pages: Mapping[str, int],
    *,
    busy: float = 0.9,
    growth: float = 0.1,
    keep: float = 0.05,
) -> dict[str, int]:
    """Quotas moved from LLMs that use little of theirs to LLMs that use nearly all (MuxServe, Alg. 3).

    An LLM that uses at least `busy` of its quota while requests wait gets up to `growth` of it more, at least a page.
    It comes, in proportion, from those below `busy`, which keep what they use and `keep` of their quota beside it, and
    never less than their floors. The busiest are served first. The total never grows.

    Args:
        quotas: head blocks of each LLM now.
        usage: of each LLM.
        floors: the least quota of each, in head blocks.
        pages: head blocks of a page of each.
        busy: share of its quota that an LLM must use to get more, and below which it gives.
        growth: share of its quota that it gets.
        keep: share of its quota that a giver keeps unused.
    """
    adapted = dict(quotas)
    utilization = {llm: usage[llm].blocks / quota for llm, quota in quotas.items()}
    spare = {
        llm: max(int(min((1 - keep) * quota - usage[llm].blocks, quota - floors[llm])), 0)
        for llm, quota in quotas.items()
        if utilization[llm] < busy
    }
    takers = [llm for llm in quotas if utilization[llm] >= busy and usage[llm].waits]
    for taker in sorted(takers, key=lambda llm: utilization[llm], reverse=True):
        total = sum(spare.values())
        wanted = min(max(int(growth * quotas[taker]), pages[taker]), total)
        for giver in spare:
            # Rounding down in proportion to what is left of `wanted` and of the total takes exactly `wanted`.
            taken = wanted * spare[giver] // total if total else 0
            total -= spare[giver]
            wanted -= taken
            spare[giver] -= taken
            adapted[giver] -= taken
            adapted[taker] += taken
    return adapted


def fairness_gap(used: Mapping[str, int], entitlements: Mapping[str, int]) -> float:
    """max |R_i - R_j| over LLMs, with R the head blocks used over those due by popularity and size.

    MuxServe's fairness bound (section 3.2) asks that this stays below some epsilon. 0 for fewer than two LLMs.
    """
    normalized = [blocks / entitlements[llm] for llm, blocks in used.items()]
    return max(normalized) - min(normalized) if normalized else 0.0


class UsageRecord:
    """The head blocks that each LLM held at its last decodes."""

    def __init__(self, length: int = 500) -> None:
        """Keep the last `length` decodes of each LLM."""
        self._length = length
        self._blocks: dict[str, deque[int]] = {}

    def add(self, llm: str, blocks: int) -> None:
        """Note what an LLM holds as a decode of it starts."""
        self._blocks.setdefault(llm, deque(maxlen=self._length)).append(blocks)

    def take_mean(self, llm: str, default: float) -> float:
        """The mean since the last call; `default` if there was no decode."""
        blocks = self._blocks.pop(llm, None)
        return sum(blocks) / len(blocks) if blocks else default
