"""How a pool is divided before anything is loaded, and all that can be wrong with that."""

from dataclasses import replace

import pytest

from muxjax.serving.plan import PlanError, build_scheduler, plan_unit
from tests.serving.unit_under_test import MAX_CONTEXT, unit_spec, write_configs


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_configs(tmp_path_factory.mktemp("configs"))


def test_every_llm_gets_pages_of_its_own_shape(sources):
    plan = {llm.name: llm for llm in plan_unit(unit_spec(sources)).llms}
    # Layers x KV heads; 4096 elements of a block over the head size, padded to a power of two.
    assert {name: (llm.page_blocks, llm.page_tokens) for name, llm in plan.items()} == {
        "small": (2, 128),
        "odd": (6, 128),
        "wide": (2, 32),
    }
    assert all(llm.max_context == MAX_CONTEXT for llm in plan.values())


def test_quotas_share_out_the_pool_and_are_what_the_scheduler_starts_with(sources):
    plan = plan_unit(unit_spec(sources, num_blocks=1000))
    pool, scheduler = build_scheduler(plan)
    assert sum(llm.quota for llm in plan.llms) <= pool.capacity == 999
    assert {llm.name: llm.quota for llm in plan.llms} == {name: pool.quota(name) for name in pool.llms}
    assert set(scheduler.queues) == set(sources)


def test_memory_is_counted_in_bytes(sources):
    plan = plan_unit(unit_spec(sources, num_blocks=1000))
    assert plan.block_bytes == 2 * 32 * 128 * 4
    assert plan.pool_bytes == 1000 * plan.block_bytes


def test_all_unreadable_configurations_are_named_at_once(sources, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(PlanError) as error:
        plan_unit(unit_spec({**sources, "gone": str(tmp_path / "gone"), "broken": f"random:{tmp_path}/broken.json"}))
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("llms.gone.source: ")
    assert "broken.json" in lines[1]


def test_a_context_beyond_the_models_own_is_refused(sources):
    with pytest.raises(PlanError, match=rf"llms.small.max_context: 9999 .*{MAX_CONTEXT}"):
        plan_unit(unit_spec({"small": sources["small"]}, max_context=9999))


def test_a_pool_too_small_for_one_sequence_says_so_for_each_llm(sources):
    with pytest.raises(PlanError, match="enlarge the pool") as error:
        plan_unit(unit_spec(sources, num_blocks=8))
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["llms.odd", "llms.wide"]


def test_a_shorter_context_makes_it_fit(sources):
    assert plan_unit(unit_spec(sources, num_blocks=8, max_context=64))


def test_over_several_devices_each_has_its_part_of_the_weights_and_its_own_heads_blocks(sources):
    alone = {llm.name: llm for llm in plan_unit(unit_spec({name: sources[name] for name in ("odd", "wide")})).llms}
    plan = plan_unit(replace(unit_spec({name: sources[name] for name in ("odd", "wide")}), tensor_parallel=2))
    for llm in plan.llms:
        assert llm.page_blocks == alone[llm.name].page_blocks / 2
        assert llm.page_tokens == alone[llm.name].page_tokens
        assert 0.5 < llm.weight_bytes / alone[llm.name].weight_bytes < 0.6  # norms are whole on each
    pool, _ = build_scheduler(plan)
    assert pool.blocks_per_page("odd") == 3  # layers x 1 of 2 KV heads


def test_every_llm_that_devices_cannot_share_is_named(sources):
    with pytest.raises(PlanError) as error:
        plan_unit(replace(unit_spec(sources), tensor_parallel=4))
    small, wide = str(error.value).splitlines()
    assert small.startswith("llms.small.source: ")
    assert small.endswith(
        "3 query heads on 1 KV heads cannot be spread over 4 devices equally (over how many they can: 1)"
    )
    assert wide.startswith("llms.wide.source: ")
    assert wide.endswith("(over how many they can: 1, 2)")
