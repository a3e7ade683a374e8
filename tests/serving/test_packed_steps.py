"""Packed steps give every request the tokens that it gets when the jobs of a step run one after another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.models.load import load_model
from muxjax.pallas_kernels.implementation import default_implementation
from muxjax.serving.executor import jax_executor
from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.executor.launch import RunningJob
from muxjax.serving.executor.llm_runtime import LLMRuntime, compile_step
from muxjax.serving.plan import build_scheduler, plan_unit
from muxjax.serving.request import FinishReason, Request
from muxjax.serving.scheduler.job import JobKind
from tests.serving.executor.test_packed import AtOnce
from tests.serving.executor.test_programs import NUM_BLOCKS, is_pool_copy
from tests.serving.test_invariance import assert_same, random_requests
from tests.serving.test_mixed_families import GOLDEN, unit
from tests.serving.unit_under_test import Client, Result, greedy, running, unit_spec, write_configs

NUM_REQUESTS = 40
SMALL_UNIT = {"max_sequences": 2, "max_prefill_tokens": 16}  # one size of each job, so that few programs are compiled


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    sources = write_configs(tmp_path_factory.mktemp("configs"))
    return {"odd": sources["odd"], "wide": sources["wide"]}


@pytest.mark.parametrize("implementation", ["xla", default_implementation().name])
def test_a_packed_program_writes_the_pool_in_place(sources, implementation) -> None:
    """A decode and a prefill of one LLM beside the decode of another one."""
    plan = plan_unit(unit_spec(sources, num_blocks=NUM_BLOCKS))
    pool, _ = build_scheduler(plan)
    shape = jax.ShapeDtypeStruct((NUM_BLOCKS, 2, 32, 128), jnp.float32)
    runtimes = [
        LLMRuntime(
            llm.spec,
            load_model(llm.spec.source, dtype=jnp.dtype("float32")),
            pool,
            shape,
            max_context=llm.max_context,
            max_prefill_tokens=16,
            background=AtOnce(),
            implementation=implementation,
        )
        for llm in plan.llms
    ]
    sizes = [{JobKind.DECODE: 8, JobKind.PREFILL: 16}, {JobKind.DECODE: 2}]
    program = compile_step(runtimes, shape, sizes).forward
    copies = [line for line in program.as_text().splitlines() if is_pool_copy(line)]
    assert not copies, copies
    memory, pool_bytes = program.memory_analysis(), np.prod(shape.shape) * 4
    assert memory.alias_size_in_bytes >= pool_bytes, "the pool is not donated"
    assert memory.temp_size_in_bytes < pool_bytes / 4


@pytest.fixture(scope="module")
def alone(sources) -> tuple[list[Request], dict[str, Result]]:
    """What each request gets when nothing runs beside it."""
    requests = random_requests(list(sources), NUM_REQUESTS, seed=3)
    with running(unit_spec(sources, **SMALL_UNIT)) as engine:
        return requests, {request.id: Client(engine).run(request) for request in requests}


def test_tokens_are_the_same_under_pressure_whatever_foreign_blocks_hold(sources, alone, packed, monkeypatch) -> None:
    """With chance, penalties and log probabilities; every block of LLMs that have no job in the step is NaN."""
    dispatch = JaxExecutor.dispatch_packed

    def poisoned(self, jobs, completions):
        healthy = self._array
        is_foreign = np.ones((healthy.shape[0], 1, 1, 1), bool)
        for job in jobs:
            is_foreign[self._pool.page_blocks(job.llm)] = False
        self._array = jnp.where(is_foreign, jnp.nan, healthy)
        launch = dispatch(self, jobs, completions)
        self._array = jnp.where(is_foreign, healthy, self._array)
        return launch

    monkeypatch.setattr(JaxExecutor, "dispatch_packed", poisoned)
    requests, expected = alone
    with running(unit_spec(sources, num_blocks=32, overlap="packed", quota_period=0.05, **SMALL_UNIT)) as engine:
        client = Client(engine)
        for request in requests:
            client.submit(request)
        results = client.wait()
        preemptions = sum(llm.preemptions for llm in engine.status().llms)
    assert preemptions > 0, "the pool was not small enough to test preemption"
    assert_same(results, expected)
    parts = {part for key in packed for part in key}
    assert any(part.decode and part.prefill for part in parts), "no LLM had both jobs in one program"
    assert any(len(key) > 1 for key in packed), "no two LLMs were in one program"


@pytest.mark.parametrize("llms", [("gemma", "qwen"), pytest.param(("phi", "gpt"), marks=pytest.mark.slow)])
def test_families_of_other_shapes_say_in_one_program_what_they_say_alone(tmp_path, packed, llms) -> None:
    """Soft caps and windows, experts, RoPE that depends on the length, learned positions: each beside another."""
    spec = unit(tmp_path, 10_000)
    spec = replace(
        spec,
        llms=tuple(replace(llm, max_sequences=2) for llm in spec.llms if llm.name in llms),
        scheduling=replace(spec.scheduling, overlap="packed"),
    )
    with running(spec) as engine:
        client = Client(engine)
        for copy in range(4):
            for llm in llms:
                golden = GOLDEN[llm]
                client.submit_prompt(f"{llm} {copy}", llm, golden["prompt"], greedy(len(golden["generated"])))
        results = client.wait()
    assert any(len(key) == 2 for key in packed)
    for (request_id, _), result in results.items():
        assert result.token_ids == GOLDEN[request_id.split()[0]]["generated"], request_id


def test_only_a_gpu_is_told_to_overlap_and_only_if_asked() -> None:
    concurrent = {"xla_gpu_command_buffer_scheduling_mode": "CONCURRENT"}
    asked = [("concurrent", "gpu"), ("packed", "gpu"), ("interleaved", "gpu"), ("concurrent", "cpu")]
    assert [jax_executor.packed_options(*one) for one in asked] == [concurrent, {}, {}, {}]


def run_both(sources, **changed: object) -> dict[str, list[int]]:
    """Some requests to each LLM of a unit that packs its steps; all end well."""
    with running(unit_spec(sources, overlap="packed", **SMALL_UNIT, **changed)) as engine:
        client = Client(engine)
        for index in range(4):
            for llm in sources:
                client.submit(Request(f"{llm}{index}", llm, tuple(range(1, 30 + index)), greedy(20)))
        results = client.wait()
        assert sum(llm.errors for llm in engine.status().llms) == 0
    assert all(result.finish_reason is FinishReason.LENGTH for result in results.values())
    return {name: result.token_ids for (name, _), result in results.items()}


@pytest.fixture(scope="module")
def expected(sources) -> dict[str, list[int]]:
    return run_both(sources)  # nothing is compiled in time


def test_where_no_packed_program_compiles_all_are_served_and_each_is_reported_once(
    sources, expected, packed, monkeypatch, caplog
) -> None:
    def failing(llms, pool, sizes, options):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(jax_executor, "compile_step", failing)
    assert run_both(sources) == expected
    assert packed == []
    messages = [record.getMessage() for record in caplog.records]
    assert messages
    assert len(messages) == len(set(messages))


def fail_before(executor: JaxExecutor) -> None:
    """On the host: nothing was given to the device yet."""


def fail_with_the_pool(executor: JaxExecutor) -> None:
    """On the device: the pool was donated to a program that did not end."""
    executor._array.delete()


def test_a_job_that_fails_by_itself_takes_no_token_of_others_from_the_packed_program_after_it(
    sources, expected, packed, monkeypatch
) -> None:
    """The LLM that failed is dropped from the program in flight, the others' tokens in it are read."""
    dispatch, read, alone, failed = JaxExecutor.dispatch, RunningJob.read, {}, []

    def dispatching(self, job, completions):
        launch = dispatch(self, job, completions)
        if job.llm == "odd":
            alone[id(launch.jobs[0])] = len(packed)
        return launch

    def reading(self, completions):
        if not failed and alone.get(id(self), len(packed)) < len(packed):
            failed.extend(f"odd{chunk.sequence.id}" for chunk in self.job.chunks)
            raise RuntimeError("the device is on fire")
        return read(self, completions)

    monkeypatch.setattr(JaxExecutor, "dispatch", dispatching)
    monkeypatch.setattr(RunningJob, "read", reading)
    with running(unit_spec(sources, overlap="packed", **SMALL_UNIT)) as engine:
        client = Client(engine)
        for index in range(4):
            for llm in sources:
                client.submit(Request(f"{llm}{index}", llm, tuple(range(1, 30 + index)), greedy(20)))
        results = client.wait()
    assert failed
    lost = {name for (name, _), result in results.items() if result.finish_reason is FinishReason.ERROR}
    assert len(lost) == len(failed)
    assert {name: result.token_ids for (name, _), result in results.items() if name not in lost} == {
        name: tokens for name, tokens in expected.items() if name not in lost
    }


@pytest.mark.parametrize("lose", [fail_before, fail_with_the_pool])
@pytest.mark.parametrize("when", ["dispatch", "read"])
def test_a_packed_program_that_fails_costs_no_request(sources, expected, packed, monkeypatch, when, lose) -> None:
    """The jobs are computed again one by one, and such a step is not packed again."""
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.")
    failed: list[tuple] = []
    launch, read, executors = JaxExecutor._launch, RunningJob.read, []

    def launching(self, program, jobs, inputs, key=None):
        executors[:] = [self]
        if when == "dispatch" and key is not None and len(packed) == 5 and not failed:
            failed.append(key)
            lose(self)
            raise error
        return launch(self, program, jobs, inputs, key)

    def reading(self, completions):
        if when == "read" and len(packed) >= 5 and not failed:
            failed.append(packed[-1])
            lose(executors[0])
            raise error
        return read(self, completions)

    monkeypatch.setattr(JaxExecutor, "_launch", launching)
    monkeypatch.setattr(RunningJob, "read", reading)
    assert run_both(sources) == expected
    assert failed
    assert len(packed) > 5, "other steps are packed as before"
