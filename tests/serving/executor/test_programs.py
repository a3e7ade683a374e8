"""What every compiled program must be: in place, and blind to what is not its reader's."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.models.load import load_model
from muxjax.pallas_kernels.implementation import Implementation, default_implementation
from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.executor.slots import SamplingTable
from muxjax.serving.plan import build_scheduler, plan_unit
from tests.serving.unit_under_test import Client, greedy, running, unit_spec, write_configs

NUM_BLOCKS = 301
POOL = jax.ShapeDtypeStruct((NUM_BLOCKS, 2, 32, 128), jnp.float32)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_configs(tmp_path_factory.mktemp("configs"))


@contextmanager
def runtime_of(
    source: str, implementation: Implementation | None = None
) -> Iterator[tuple[LLMRuntime, ThreadPoolExecutor]]:
    """An LLM in a pool of its own, and the thread that compiles for it."""
    plan = plan_unit(unit_spec({"llm": source}, num_blocks=NUM_BLOCKS))
    pool, _ = build_scheduler(plan)
    with ThreadPoolExecutor(1) as background:
        runtime = LLMRuntime(
            plan.llms[0].spec,
            load_model(source, dtype=jnp.dtype("float32")),
            pool,
            POOL,
            max_context=plan.llms[0].max_context,
            max_prefill_tokens=64,
            background=background,
            implementation=implementation,
        )
        yield runtime, background


@pytest.mark.parametrize("name", ["small", "odd", "wide"])
@pytest.mark.parametrize("implementation", ["xla", default_implementation().name])
def test_no_program_copies_the_pool(sources, name, implementation):
    with runtime_of(sources[name], implementation) as (runtime, background):
        assert list(runtime.compile_needed(background)) == [(0, 2), (1, 2), (2, 2)]
        for key, (program, _) in runtime.programs.items():
            copies = [line for line in program.as_text().splitlines() if is_pool_copy(line)]
            assert not copies, f"{key}: {copies}"
            memory = program.memory_analysis()
            pool_bytes = np.prod(POOL.shape) * 4
            assert memory.alias_size_in_bytes >= pool_bytes, f"{key}: the pool is not donated"
            assert memory.temp_size_in_bytes < pool_bytes / 4, f"{key}: {memory}"


def test_compiling_leaves_alone_the_options_that_the_engine_changes_meanwhile(sources, monkeypatch):
    """A copy that another thread takes may be of before a change, and then stands for the table after it."""

    def take(table):
        raise AssertionError("a program's compilation took the options")

    monkeypatch.setattr(SamplingTable, "on_device", take)
    with runtime_of(sources["small"]) as (runtime, background):
        for _ in runtime.compile_needed(background):
            pass
        assert runtime.programs


def is_pool_copy(line: str) -> bool:
    """Whether an HLO instruction makes a copy that is as large as the pool, in whatever view."""
    match = re.match(r"\s*(?:ROOT )?%?[\w.-]*copy[\w.-]* = \w+\[([\d,]+)\]", line)
    return bool(match) and np.prod([int(n) for n in match.group(1).split(",")]) == NUM_BLOCKS * 2 * 32 * 128


def test_the_copy_test_has_teeth():
    """A program that keeps the old pool must copy it, and must be caught."""
    pool = jax.ShapeDtypeStruct((NUM_BLOCKS, 2, 32, 128), jnp.float32)
    keeps = jax.jit(lambda pool: (pool.at[3].set(1.0), pool[5]), donate_argnums=())
    assert any(is_pool_copy(line) for line in keeps.lower(pool).compile().as_text().splitlines())


def test_nan_in_foreign_and_free_blocks_never_reaches_an_output(sources, monkeypatch):
    """Before every job, all head blocks that are not its LLM's become NaN on the device."""
    requests = {name: [(f"{name}{index}", tuple(range(1, 20 + 40 * index))) for index in range(3)] for name in sources}

    def run() -> dict[tuple[str, int], tuple[int, ...]]:
        with running(unit_spec(sources, num_blocks=NUM_BLOCKS, max_prefill_tokens=48)) as engine:
            client = Client(engine)
            for name, prompts in requests.items():
                for request_id, prompt in prompts:
                    client.submit_prompt(request_id, name, prompt, greedy(70, logprobs=1))
            results = client.wait()
        assert all(np.isfinite(entry.chosen) for result in results.values() for entry in result.logprobs)
        return {key: tuple(result.token_ids) for key, result in results.items()}

    expected = run()
    monkeypatch.setattr(JaxExecutor, "dispatch", poisoning(JaxExecutor.dispatch))
    assert run() == expected


def poisoning(dispatch):
    """`dispatch` with the blocks of all others lost while the job runs."""

    def poisoned(self, job, completions):
        healthy = self._array
        is_foreign = np.ones((healthy.shape[0], 1, 1, 1), bool)
        is_foreign[self._pool.page_blocks(job.llm)] = False  # its own, and the null block
        self._array = jnp.where(is_foreign, jnp.nan, healthy)
        running = dispatch(self, job, completions)
        # What the job wrote is in its own blocks; the others get theirs back.
        self._array = jnp.where(is_foreign, healthy, self._array)
        return running

    return poisoned


def test_a_job_reads_nothing_of_the_tail_of_its_own_last_page(sources):
    """Stale values of earlier owners, here NaN, lie behind a sequence's last token."""
    with running(unit_spec({"wide": sources["wide"]}, num_blocks=NUM_BLOCKS)) as engine:
        client = Client(engine)
        expected = client.run_prompt("before", "wide", range(1, 40), greedy(30))
        engine._executor._array = engine._executor._array * jnp.nan
        after = client.run_prompt("after", "wide", range(1, 40), greedy(30, logprobs=0))
    assert after.token_ids == expected.token_ids
    assert np.isfinite([entry.chosen for entry in after.logprobs]).all()
