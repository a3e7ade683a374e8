"""The pool: one set of head blocks for LLMs of any shape."""

import subprocess
import sys

import numpy as np
import pytest

from muxjax.serving.pool import OutOfBlocksError, Pool, PoolCorruptError, page_tokens


def make_pool(num_blocks: int = 101, **quotas: int) -> Pool:
    """A pool with two LLMs: "deep" (12 blocks a page of 64 tokens) and "wide" (10 blocks a page of 16 tokens)."""
    pool = Pool(num_blocks)
    pool.add_llm("deep", layers=6, kv_heads=2, head_dim=64, quota=quotas.get("deep"))
    pool.add_llm("wide", layers=2, kv_heads=5, head_dim=256, quota=quotas.get("wide"))
    return pool


@pytest.mark.parametrize(
    ("head_dim", "tokens"), [(32, 128), (64, 64), (80, 32), (128, 32), (129, 16), (256, 16), (1, 4096), (4096, 1)]
)
def test_a_head_block_holds_as_many_tokens_as_the_padded_head_size_leaves(head_dim: int, tokens: int) -> None:
    assert page_tokens(4096, head_dim) == tokens


def test_all_head_sizes_share_one_pool() -> None:
    pool = Pool(1000)
    for head_dim in (32, 64, 80, 128, 256):
        pool.add_llm(f"d{head_dim}", layers=2, kv_heads=head_dim // 16, head_dim=head_dim)
        pool.allocate(f"d{head_dim}", sequence_id=1, num_pages=3)
    pool.check_integrity()
    blocks = np.concatenate([pool.page_blocks(llm)[:, pool.page_table(llm, 1)].ravel() for llm in pool.llms])
    assert len(set(blocks.tolist())) == blocks.size == pool.capacity - pool.free_blocks


def test_pages_take_a_block_for_each_layer_and_kv_head() -> None:
    pool = make_pool()
    pool.allocate("deep", sequence_id=7, num_pages=2)
    assert pool.page_table("deep", 7).tolist() == [1, 2]
    assert pool.page_blocks("deep").shape == (6, pool.max_pages("deep"), 2)
    assert sorted(pool.page_blocks("deep")[:, [1, 2]].ravel()) == list(range(1, 25))
    assert (pool.used("deep"), pool.used("wide"), pool.free_blocks) == (24, 0, 76)


def test_null_block_and_null_page_are_never_allocated() -> None:
    pool = make_pool()
    pool.allocate("wide", sequence_id=1, num_pages=pool.capacity // 10)
    pages = pool.page_table("wide", 1)
    assert 0 not in pages
    assert 0 not in pool.page_blocks("wide")[:, pages]
    assert (pool.page_blocks("wide")[:, 0] == 0).all()


def test_an_llm_without_a_quota_may_hold_the_whole_pool() -> None:
    pool = make_pool()
    assert pool.quota("wide") == 100
    pool.allocate("wide", sequence_id=1, num_pages=10)
    assert pool.free_blocks == 0


def test_a_sequence_grows_page_by_page_in_order() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 1)
    pool.allocate("deep", 2, 1)
    pool.append_page("deep", [1, 2])
    pool.allocate("deep", 1, 2)
    assert pool.page_table("deep", 1).tolist() == [1, 3, 5, 6]
    assert pool.page_table("deep", 2).tolist() == [2, 4]


def test_page_tables_of_a_batch_are_padded_with_the_null_page() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 1)
    pool.allocate("deep", 2, 3)
    assert pool.page_tables("deep", [2, 1]).tolist() == [[2, 3, 4], [1, 0, 0]]
    assert pool.page_tables("deep", [1], width=2).tolist() == [[1, 0]]
    assert pool.page_tables("deep", [], width=2).shape == (0, 2)
    with pytest.raises(ValueError, match="3 pages does not fit into 2 columns"):
        pool.page_tables("deep", [2], width=2)


def test_page_tables_outgrow_their_first_size() -> None:
    pool = Pool(2001)
    pool.add_llm("tiny", layers=1, kv_heads=1, head_dim=128)
    for sequence_id in range(50):
        pool.allocate("tiny", sequence_id, 30)
    tables = pool.page_tables("tiny", range(50))
    assert tables.shape == (50, 30)
    assert len(np.unique(tables)) == 1500
    pool.check_integrity()


def test_page_table_does_not_change_under_its_reader() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 2)
    table = pool.page_table("deep", 1)
    pool.free("deep", 1)
    assert table.tolist() == [1, 2]


def test_freed_blocks_serve_another_llm() -> None:
    pool = make_pool()
    pool.allocate("wide", 1, 10)
    pool.free("wide", 1)
    pool.allocate("deep", 1, 8)
    pool.check_integrity()
    assert pool.free_blocks == 4


def test_an_allocation_beyond_the_quota_changes_nothing() -> None:
    pool = make_pool(deep=30)
    pool.allocate("deep", 1, 1)
    with pytest.raises(OutOfBlocksError, match="'deep' needs 24 head blocks, but its quota has 18 left") as error:
        pool.allocate("deep", 1, 2)
    assert (error.value.limit, error.value.needed, error.value.available) == ("quota", 24, 18)
    assert pool.page_table("deep", 1).tolist() == [1]
    pool.check_integrity()


def test_an_allocation_beyond_the_pool_changes_nothing() -> None:
    pool = make_pool()
    pool.allocate("wide", 1, 9)
    pool.allocate("wide", 2, 1)
    with pytest.raises(OutOfBlocksError, match="'deep' needs 12 head blocks, but its pool has 0 left") as error:
        pool.allocate("deep", 1, 1)
    assert error.value.limit == "pool"
    with pytest.raises(OutOfBlocksError):
        pool.append_page("wide", [1, 2])
    with pytest.raises(KeyError):
        pool.page_table("deep", 1)
    pool.check_integrity()


def test_an_llm_above_its_lowered_quota_keeps_its_pages_but_gets_no_more() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 4)
    pool.set_quota("deep", 24)
    assert pool.used("deep") == 48
    with pytest.raises(OutOfBlocksError, match="its quota has 0 left"):
        pool.append_page("deep", [1])
    pool.free("deep", 1)
    pool.allocate("deep", 2, 2)


def test_forked_pages_are_shared_counted_once_and_freed_by_the_last_holder() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 3)
    pool.fork("deep", parent_id=1, child_id=2, num_pages=2)
    pool.append_page("deep", [2])
    assert pool.page_table("deep", 2).tolist() == [1, 2, 4]
    assert pool.used("deep") == 4 * 12
    pool.free("deep", 1)
    assert pool.used("deep") == 3 * 12
    pool.check_integrity()
    pool.free("deep", 2)
    assert pool.used("deep") == 0
    pool.check_integrity()


def test_a_fork_needs_a_new_child_and_a_long_enough_parent() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 2)
    pool.allocate("deep", 2, 1)
    with pytest.raises(ValueError, match="2 pages, fewer than 3"):
        pool.fork("deep", 1, 3, num_pages=3)
    with pytest.raises(ValueError, match="holds pages already"):
        pool.fork("deep", 1, 2, num_pages=1)
    with pytest.raises(KeyError):
        pool.fork("deep", 9, 3, num_pages=1)
    pool.check_integrity()


def test_new_pages_are_reported_once() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 3)
    assert pool.take_new_pages("deep").tolist() == [1, 2, 3]
    assert pool.take_new_pages("deep").tolist() == []
    pool.free("deep", 1)
    pool.allocate("deep", 2, 1)
    pool.append_page("deep", [2])
    assert pool.take_new_pages("deep").tolist() == [1, 2]
    assert pool.take_new_pages("wide").tolist() == []


def test_unknown_names_are_errors() -> None:
    pool = make_pool()
    with pytest.raises(KeyError):
        pool.allocate("other", 1, 1)
    with pytest.raises(KeyError):
        pool.free("deep", 1)
    with pytest.raises(KeyError):
        pool.append_page("deep", [1])
    pool.check_integrity()


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_blocks must be at least 2"):
        Pool(1)
    with pytest.raises(ValueError, match="power of two, not 4000"):
        Pool(10, block_elements=4000)
    pool = make_pool()
    with pytest.raises(ValueError, match="'deep' is in the pool already"):
        pool.add_llm("deep", 1, 1, 64)
    with pytest.raises(ValueError, match="layers and kv_heads must be at least 1, not 0 and 2"):
        pool.add_llm("flat", 0, 2, 64)
    with pytest.raises(ValueError, match="a page takes 128 head blocks, the pool has 100; enlarge it"):
        pool.add_llm("huge", 16, 8, 64)
    with pytest.raises(ValueError, match=r"head_dim 5000 \(padded to 8192\) exceeds the 4096 elements"):
        pool.add_llm("broad", 1, 1, 5000)
    with pytest.raises(ValueError, match="quota must be between 0 and the pool's 100 blocks, not 101"):
        pool.set_quota("deep", 101)
    assert pool.llms == ("deep", "wide")


def test_integrity_check_names_a_block_with_two_owners() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 1)
    pool.allocate("wide", 1, 1)
    pool.page_blocks("wide")[0, 1, 0] = pool.page_blocks("deep")[0, 1, 0]
    with pytest.raises(PoolCorruptError, match="head block 1 has 2 owners; head block 13 has 0 owners"):
        pool.check_integrity()


def test_integrity_check_names_a_page_that_lost_its_blocks() -> None:
    pool = make_pool()
    pool.allocate("deep", 1, 2)
    pool.page_blocks("deep")[:, 2] = 0
    with pytest.raises(PoolCorruptError, match="page 2 of 'deep' is held but lacks blocks"):
        pool.check_integrity()


def test_the_pool_does_not_import_jax() -> None:
    code = "import sys, muxjax.serving.pool; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
