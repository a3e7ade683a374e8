"""How head blocks are shared out, and how the shares move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.policies import make_policy
from muxjax.serving.scheduler.quota import (
    Usage,
    UsageRecord,
    adapt_quotas,
    fairness_gap,
    full_context_blocks,
    initial_quotas,
)
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.scheduler.share import LLMShare


def make_pool(num_blocks: int) -> Pool:
    """ "small": 4 blocks a page of 128 tokens; "large": 32 blocks a page of 32 tokens, 32 times as much a token."""
    pool = Pool(num_blocks + 1)
    pool.add_llm("small", layers=2, kv_heads=2, head_dim=32)
    pool.add_llm("large", layers=8, kv_heads=4, head_dim=128)
    return pool


def test_quotas_are_in_proportion_to_rate_times_blocks_of_a_token() -> None:
    shares = {"small": LLMShare(rate=8.0, max_context=128), "large": LLMShare(rate=1.0, max_context=32)}
    assert initial_quotas(make_pool(1000), shares) == {"small": 200, "large": 800}


def test_a_quota_holds_at_least_one_full_context() -> None:
    shares = {"small": LLMShare(rate=1e-6, max_context=1000), "large": LLMShare(rate=1.0, max_context=32)}
    pool = make_pool(1000)
    assert full_context_blocks(pool, "small", shares["small"]) == 8 * 4
    assert initial_quotas(pool, shares) == {"small": 32, "large": 968}


def test_quotas_overlap_where_not_every_full_context_fits() -> None:
    shares = {"small": LLMShare(rate=1.0, max_context=2048), "large": LLMShare(rate=1.0, max_context=64)}
    assert initial_quotas(make_pool(100), shares) == {"small": 64, "large": 64}


def test_a_context_larger_than_the_pool_counts_as_the_pools_whole_pages() -> None:
    share = LLMShare(rate=1.0, max_context=100_000)
    assert full_context_blocks(make_pool(100), "large", share) == 96


@given(
    num_blocks=st.integers(40, 5000),
    rates=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
    contexts=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
)
def test_initial_quotas_fill_the_pool_or_hold_exactly_a_full_context_each(
    num_blocks: int, rates: tuple[float, float], contexts: tuple[int, int]
) -> None:
    pool = make_pool(num_blocks)
    shares = {llm: LLMShare(*limits) for llm, limits in zip(pool.llms, zip(rates, contexts, strict=True), strict=True)}
    quotas = initial_quotas(pool, shares)
    floors = {llm: full_context_blocks(pool, llm, share) for llm, share in shares.items()}
    assert all(floors[llm] <= quotas[llm] <= num_blocks for llm in quotas)
    if sum(floors.values()) > num_blocks:
        assert quotas == floors
    else:
        assert num_blocks - 2 <= sum(quotas.values()) <= num_blocks


def adapt(quotas: list[int], used: list[float], waits: list[bool], floors: list[int] | None = None) -> list[int]:
    """`adapt_quotas` of LLMs with pages of one block."""
    llms = [str(index) for index in range(len(quotas))]
    adapted = adapt_quotas(
        dict(zip(llms, quotas, strict=True)),
        {llm: Usage(blocks, wait) for llm, blocks, wait in zip(llms, used, waits, strict=True)},
        dict(zip(llms, floors or [1] * len(llms), strict=True)),
        dict.fromkeys(llms, 1),
    )
    return list(adapted.values())


def test_who_uses_nearly_all_grows_by_a_tenth() -> None:
    assert adapt([100, 100], used=[90, 10], waits=[True, False]) == [110, 90]


def test_who_uses_less_than_nine_tenths_does_not_grow() -> None:
    assert adapt([100, 100], used=[89, 10], waits=[True, False]) == [100, 100]


def test_who_has_no_waiting_requests_neither_grows_nor_gives() -> None:
    assert adapt([100, 100, 100], used=[95, 95, 10], waits=[False, True, False]) == [100, 110, 90]


def test_givers_keep_their_use_and_a_twentieth_of_their_quota() -> None:
    assert adapt([100, 100], used=[90, 88], waits=[True, False]) == [107, 93]


def test_givers_keep_a_full_context() -> None:
    assert adapt([100, 100], used=[90, 0], waits=[True, False], floors=[1, 96]) == [104, 96]


def test_givers_give_in_proportion_to_what_they_can_spare() -> None:
    assert adapt([200, 100, 100], used=[200, 35, 65], waits=[True, False, False]) == [220, 87, 93]


def test_the_busiest_grows_first() -> None:
    assert adapt([100, 100, 100], used=[92, 99, 83], waits=[True, True, False]) == [102, 110, 88]


def test_growth_is_at_least_a_page() -> None:
    usage = {"a": Usage(8, True), "b": Usage(0, False)}
    assert adapt_quotas({"a": 8, "b": 80}, usage, {"a": 8, "b": 8}, {"a": 8, "b": 8}) == {"a": 16, "b": 72}


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1.5), st.booleans(), st.floats(0, 1)), min_size=1, max_size=6)
)
def test_quota_is_moved_never_made_or_lost(llms: list[tuple[int, float, bool, float]]) -> None:
    quotas = [quota for quota, *_ in llms]
    floors = [max(int(quota * floor), 1) for quota, _, _, floor in llms]
    used = [quota * use for quota, use, *_ in llms]
    waits = [wait for _, _, wait, _ in llms]
    adapted = adapt(quotas, used, waits, floors)
    assert sum(adapted) == sum(quotas)
    assert all(new >= floor for new, floor in zip(adapted, floors, strict=True))
    assert all(new >= blocks for new, old, blocks in zip(adapted, quotas, used, strict=True) if new < old)


def test_usage_is_the_mean_over_the_last_decodes_since_it_was_taken() -> None:
    record = UsageRecord(length=3)
    for blocks in (100, 1, 2, 3):
        record.add("a", blocks)
    assert record.take_mean("a", default=7) == 2
    assert record.take_mean("a", default=7) == 7


def test_fairness_gap_is_the_spread_of_use_over_what_is_due() -> None:
    assert fairness_gap({"a": 50, "b": 10, "c": 30}, {"a": 100, "b": 40, "c": 30}) == 0.75
    assert fairness_gap({"a": 50}, {"a": 100}) == 0
    assert fairness_gap({}, {}) == 0


def test_the_scheduler_reports_the_gap_between_llms_that_have_sequences() -> None:
    pool = make_pool(1000)
    shares = {"small": LLMShare(rate=8.0, max_context=256), "large": LLMShare(rate=1.0, max_context=64)}
    scheduler = Scheduler(pool, shares, make_policy("adbs"))
    scheduler.add(Sequence(1, "small", 100, 200, 0.0), 0.0)
    scheduler.schedule(0.0)
    assert scheduler.fairness_gap() == 0
    scheduler.add(Sequence(2, "large", 20, 40, 0.0), 0.0)
    assert scheduler.fairness_gap() == pytest.approx(4 / 200)
