"""Pools that fit beside weights and programs, and those that do not."""

from dataclasses import replace

import jax
import pytest

from muxjax.models.load import weight_bytes
from muxjax.serving.memory import device_bytes, fit_pool, program_bytes
from muxjax.serving.plan import PlanError, plan_unit
from tests.serving.unit_under_test import Client, greedy, running, unit_spec, write_configs

DEVICE = jax.devices()[0]
MIB = 1 << 20


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A unit whose pool is to be sized."""
    sources = write_configs(tmp_path_factory.mktemp("configs"))
    return unit_spec({"small": sources["small"], "odd": sources["odd"]}, num_blocks=0)


def weights_of(spec) -> int:
    return sum(weight_bytes(llm.source, dtype=llm.dtype) for llm in spec.llms)


def test_a_pool_takes_what_weights_and_programs_leave(spec) -> None:
    programs = program_bytes(spec, DEVICE)
    assert programs > 8 * 131 * 4, "not even the logits of a batch"
    fitted = fit_pool(spec, [DEVICE], 64 * MIB)
    pool_bytes = fitted.pool.num_blocks * fitted.pool.block_bytes
    left = 64 * MIB - weights_of(spec) - programs
    assert 0.9 * left < pool_bytes <= left
    with running(fitted) as engine:
        assert len(Client(engine).run_prompt("a", "odd", (1, 2, 3), greedy(5)).token_ids) == 5


def test_programs_of_several_llms_run_one_at_a_time_unless_they_are_packed(spec) -> None:
    packed = replace(spec, scheduling=replace(spec.scheduling, overlap="packed"))
    assert program_bytes(packed, DEVICE) > program_bytes(spec, DEVICE)


@pytest.mark.parametrize("blocks", [0, 10_000])
def test_what_does_not_fit_is_refused_with_the_figures(spec, blocks) -> None:
    with pytest.raises(
        PlanError, match=r"pool: .*the weights' 0\.00 GiB .* GiB: (serve fewer models|lower pool.memory)"
    ):
        fit_pool(replace(spec, pool=replace(spec.pool, num_blocks=blocks)), [DEVICE], weights_of(spec) + MIB // 8)


def test_a_pool_that_fits_stays_as_it_was_given(spec) -> None:
    given = replace(spec, pool=replace(spec.pool, num_blocks=100))
    assert fit_pool(given, [DEVICE]) == given
    assert device_bytes(DEVICE) > 100 * MIB


def test_models_that_cannot_be_read_are_for_the_plan_to_report(spec) -> None:
    missing = replace(spec, llms=(replace(spec.llms[0], source="random:/nowhere.json"),))
    with pytest.raises(PlanError, match=r"llms\.small\.source"):
        plan_unit(fit_pool(missing, [DEVICE]))
