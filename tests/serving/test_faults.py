"""What fails on the device costs the requests that were in it, and nobody else: every fault is injected for real."""

import threading
import time
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import pytest

from muxjax.serving.completion import Completion
from muxjax.serving.engine import Engine
from muxjax.serving.errors import ModelNotReady
from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.executor.launch import RunningJob
from muxjax.serving.pool import PoolCorruptError
from muxjax.serving.request import FinishReason, Request, SamplingParams
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.steps import MAX_FAILURES
from muxjax.serving.unit import RefusedError
from tests.serving.unit_under_test import Client, Result, greedy, running, unit_spec, write_configs

VICTIM, BYSTANDER = "odd", "small"
TOKENS = 40


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_configs(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def shared(sources) -> Iterator[Engine]:
    with running(unit_spec({VICTIM: sources[VICTIM], BYSTANDER: sources[BYSTANDER]}, max_sequences=4)) as engine:
        yield engine


@pytest.fixture
def engine(shared) -> Iterator[Engine]:
    """After each test nothing runs, no block is missing and the books are in order."""
    yield shared
    deadline = time.monotonic() + 20
    while shared.status().blocks_free < shared.status().blocks_total and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shared.status().blocks_free == shared.status().blocks_total
    shared._pool.check_integrity()


class Fault:
    """Strikes jobs of one LLM, from the `first` of that kind on, so many times."""

    def __init__(self, kind: JobKind, *, first: int, times: int = 1) -> None:
        self.kind = kind
        self.strikes_left = times
        self._skip = first

    def strikes(self, llm: str, kind: JobKind) -> bool:
        if llm != VICTIM or kind is not self.kind or not self.strikes_left:
            return False
        self._skip -= 1
        if self._skip >= 0:
            return False
        self.strikes_left -= 1
        return True


def raise_before(monkeypatch: pytest.MonkeyPatch, fault: Fault, error: Exception) -> None:
    """On the host: nothing was given to the device yet."""
    dispatch = JaxExecutor.dispatch

    def failing(self, job, completions):
        if fault.strikes(job.llm, job.kind):
            raise error
        return dispatch(self, job, completions)

    monkeypatch.setattr(JaxExecutor, "dispatch", failing)


def raise_and_lose_the_pool(monkeypatch: pytest.MonkeyPatch, fault: Fault, error: Exception) -> None:
    """On the device: the pool was donated to a program that did not end."""
    dispatch = JaxExecutor.dispatch

    def failing(self, job, completions):
        if fault.strikes(job.llm, job.kind):
            self._array.delete()
            raise error
        return dispatch(self, job, completions)

    monkeypatch.setattr(JaxExecutor, "dispatch", failing)


def raise_at_the_read(monkeypatch: pytest.MonkeyPatch, fault: Fault, error: Exception) -> None:
    """On the device, seen only when the tokens are read; the next step is in flight by then."""
    read = RunningJob.read

    def failing(self, completions):
        if fault.strikes(self.job.llm, self.job.kind):
            raise error
        return read(self, completions)

    monkeypatch.setattr(RunningJob, "read", failing)


def lose_the_pool_at_the_read(monkeypatch: pytest.MonkeyPatch, fault: Fault, error: Exception) -> None:
    read = RunningJob.read
    executors: list[JaxExecutor] = []
    dispatch = JaxExecutor.dispatch

    def dispatching(self, job, completions):
        executors[:] = [self]
        return dispatch(self, job, completions)

    def failing(self, completions):
        if fault.strikes(self.job.llm, self.job.kind):
            executors[0]._array.delete()
            raise error
        return read(self, completions)

    monkeypatch.setattr(JaxExecutor, "dispatch", dispatching)
    monkeypatch.setattr(RunningJob, "read", failing)


Inject = Callable[[pytest.MonkeyPatch, Fault, Exception], None]
WAYS: list[Inject] = [raise_before, raise_and_lose_the_pool, raise_at_the_read, lose_the_pool_at_the_read]


def broken() -> RuntimeError:
    """As XLA tells it."""
    return RuntimeError("INTERNAL: Failed to launch the kernel at 0xdeadbeef.")


def out_of_memory() -> RuntimeError:
    """As XLA tells it."""
    return RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes at 0xdeadbeef.")


def submit(client: Client, name: str, llm: str, tokens: int = TOKENS, **changed: object) -> None:
    client.submit(Request(name, llm, tuple(range(1, 30)), greedy(tokens, **changed)))


def alone(engine: Engine, llm: str, sampling: SamplingParams) -> list[int]:
    return Client(engine).run(Request("alone", llm, tuple(range(1, 30)), sampling)).token_ids


@pytest.mark.parametrize("kind", JobKind)
@pytest.mark.parametrize("inject", WAYS)
def test_a_failed_job_ends_its_requests_and_no_other(engine, monkeypatch, inject, kind) -> None:
    expected = {llm: alone(engine, llm, greedy(TOKENS)) for llm in (VICTIM, BYSTANDER)}
    errors = {llm.name: llm.errors for llm in engine.status().llms}
    with monkeypatch.context() as patch:
        inject(patch, Fault(kind, first=3 if kind is JobKind.DECODE else 0), broken())
        client = Client(engine)
        for index in range(8):
            submit(client, f"v{index}", VICTIM)
            submit(client, f"b{index}", BYSTANDER)
        results = client.wait()
    lost = failed(results)
    assert lost
    assert all(name.startswith("v") for name in lost)
    for (name, _), result in results.items():
        if name not in lost:
            assert result.token_ids == expected[VICTIM if name.startswith("v") else BYSTANDER], name
        else:
            assert "0xdeadbeef" not in result.error, "addresses do not leave the server"
    after = {llm.name: llm.errors for llm in engine.status().llms}
    assert after == {VICTIM: errors[VICTIM] + len(lost), BYSTANDER: errors[BYSTANDER]}
    assert alone(engine, VICTIM, greedy(TOKENS)) == expected[VICTIM]


def failed(results: dict[tuple[str, int], Result]) -> set[str]:
    return {name for (name, _), result in results.items() if result.finish_reason is FinishReason.ERROR}


@pytest.mark.parametrize("kind", JobKind)
@pytest.mark.parametrize("inject", WAYS)
def test_a_device_without_memory_for_a_job_gets_smaller_ones_and_no_request_is_lost(
    engine, monkeypatch, caplog, inject, kind
) -> None:
    expected = {llm: alone(engine, llm, greedy(TOKENS)) for llm in (VICTIM, BYSTANDER)}
    preemptions = {llm.name: llm.preemptions for llm in engine.status().llms}
    with monkeypatch.context() as patch:
        inject(patch, Fault(kind, first=3 if kind is JobKind.DECODE else 0), out_of_memory())
        client = Client(engine)
        for index in range(8):
            submit(client, f"v{index}", VICTIM)
            submit(client, f"b{index}", BYSTANDER)
        results = client.wait()
    assert not failed(results)
    assert all(
        r.token_ids == expected[VICTIM if name.startswith("v") else BYSTANDER] for (name, _), r in results.items()
    )
    assert {llm.name: llm.preemptions for llm in engine.status().llms}[VICTIM] > preemptions[VICTIM]
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith(f"the device has no memory for a {kind.value} of {VICTIM}")


def test_a_device_that_never_has_memory_for_an_llm_serves_the_others(sources, monkeypatch) -> None:
    with running(unit_spec({VICTIM: sources[VICTIM], BYSTANDER: sources[BYSTANDER]}, max_sequences=4)) as engine:
        expected = alone(engine, BYSTANDER, greedy(TOKENS))
        raise_before(monkeypatch, Fault(JobKind.DECODE, first=0, times=10**9), out_of_memory())
        client = Client(engine)
        for index in range(8):
            submit(client, f"v{index}", VICTIM)
            submit(client, f"b{index}", BYSTANDER)
        results = client.wait()
        assert failed(results) == {f"v{index}" for index in range(8)}
        assert all(r.token_ids == expected for (name, _), r in results.items() if name.startswith("b"))


def test_a_lost_pool_is_computed_again_with_the_same_tokens_under_penalties_and_chance(engine, monkeypatch) -> None:
    options = SamplingParams(seed=7, max_tokens=TOKENS, repetition_penalty=1.3, frequency_penalty=0.5)
    expected = alone(engine, BYSTANDER, options)
    with monkeypatch.context() as patch:
        raise_and_lose_the_pool(patch, Fault(JobKind.DECODE, first=5, times=2), broken())
        client = Client(engine)
        for index in range(3):
            client.submit(Request(f"b{index}", BYSTANDER, tuple(range(1, 30)), options))
        for index in range(6):
            submit(client, f"v{index}", VICTIM)
        results = client.wait()
    assert failed(results)
    assert [results[f"b{index}", 0].token_ids for index in range(3)] == [expected] * 3


def test_scores_that_are_no_numbers_end_their_request_only(engine, monkeypatch) -> None:
    """One row of a batch is spoilt: its neighbours in the batch go on."""
    expected = alone(engine, VICTIM, greedy(TOKENS))
    dispatch = JaxExecutor.dispatch
    spoilt = iter([True])

    def spoiling(self, job, completions):
        is_spoilt = job.kind is JobKind.DECODE and job.llm == VICTIM and len(job.chunks) == 4 and next(spoilt, False)
        if is_spoilt:
            chunk = job.chunks[1]
            page = self._pool.page_table(VICTIM, chunk.sequence.id)[0]
            blocks = self._pool.page_blocks(VICTIM)[:, page].reshape(-1)
            self._array = self._array.at[blocks, 0, 0].set(jnp.nan)
        return dispatch(self, job, completions)

    with monkeypatch.context() as patch:
        patch.setattr(JaxExecutor, "dispatch", spoiling)
        client = Client(engine)
        for index in range(4):
            submit(client, f"v{index}", VICTIM)
        results = client.wait()
    (lost,) = failed(results)
    assert "not finite" in results[lost, 0].error
    assert all(result.token_ids == expected for (name, _), result in results.items() if name != lost)


def test_an_llm_that_keeps_failing_is_given_up_and_the_others_serve_on(sources, monkeypatch) -> None:
    with running(unit_spec({VICTIM: sources[VICTIM], BYSTANDER: sources[BYSTANDER]}, max_sequences=2)) as engine:
        expected = alone(engine, BYSTANDER, greedy(TOKENS))
        raise_before(monkeypatch, Fault(JobKind.DECODE, first=0, times=10**9), broken())
        client = Client(engine)
        for index in range(2 * MAX_FAILURES + 6):
            submit(client, f"v{index}", VICTIM)
            submit(client, f"b{index}", BYSTANDER)
        results = client.wait()
        assert failed(results) == {f"v{index}" for index in range(2 * MAX_FAILURES + 6)}
        assert all(r.token_ids == expected for (name, _), r in results.items() if name.startswith("b"))
        state = {llm.name: (llm.state, llm.running, llm.waiting, llm.blocks_used) for llm in engine.status().llms}
        assert state == {VICTIM: ("failed", 0, 0, 0), BYSTANDER: ("ready", 0, 0, 0)}
        with pytest.raises(ModelNotReady, match="odd failed: it failed 3 times in a row"):
            submit(Client(engine), "more", VICTIM)


def test_a_model_whose_scores_are_never_numbers_is_given_up(sources) -> None:
    with running(unit_spec({VICTIM: sources[VICTIM], BYSTANDER: sources[BYSTANDER]})) as engine:
        runtime = engine._runtimes[VICTIM]
        runtime._leaves = tuple(leaf * jnp.nan for leaf in runtime._leaves)
        client = Client(engine)
        for index in range(MAX_FAILURES):
            client.run(Request(f"v{index}", VICTIM, (1, 2), greedy(TOKENS)))
        assert len(failed(client.results)) == MAX_FAILURES
        with pytest.raises(ModelNotReady, match="not finite"):
            submit(client, "more", VICTIM)
        assert len(alone(engine, BYSTANDER, greedy(TOKENS))) == TOKENS


def test_a_tokenizer_that_fails_costs_its_request_only(engine, monkeypatch) -> None:
    expected = alone(engine, VICTIM, greedy(TOKENS))

    class Broken:
        """In the place of the detokenizer."""

        def push(self, token_ids: list[int]) -> str:
            raise OSError("no such token")

        def finish(self) -> str:
            raise OSError("nothing left")

    append = Completion.append

    def breaking(self, token_id, logprobs):
        if self.request.id == "b0" and self.num_generated == 4:
            self._detokenizer = Broken()
        return append(self, token_id, logprobs)

    monkeypatch.setattr(Completion, "append", breaking)
    client = Client(engine)
    submit(client, "b0", BYSTANDER)
    submit(client, "b1", BYSTANDER)
    submit(client, "v0", VICTIM)
    results = client.wait()
    assert failed(results) == {"b0"}
    assert len(results["b0", 0].token_ids) == 4
    assert results["v0", 0].token_ids == expected


def test_a_receiver_that_fails_loses_only_its_own_outputs(engine) -> None:
    def fail(outputs):
        raise ValueError("nobody home")

    engine.submit(Request("lost", VICTIM, (1, 2), greedy(5)), fail)
    assert len(alone(engine, BYSTANDER, greedy(TOKENS))) == TOKENS


def test_a_fault_of_the_loop_itself_ends_every_request_with_an_error_and_it_goes_on(engine, monkeypatch) -> None:
    schedule = engine._scheduler.schedule
    faults = iter([False] * 4 + [True])

    def failing(now):
        if next(faults, False):
            raise ZeroDivisionError
        return schedule(now)

    monkeypatch.setattr(engine._scheduler, "schedule", failing)
    client = Client(engine)
    for index in range(6):
        submit(client, f"v{index}", VICTIM)
    assert failed(client.wait()) == {f"v{index}" for index in range(6)}
    assert len(alone(engine, VICTIM, greedy(TOKENS))) == TOKENS


def test_a_loop_that_cannot_go_on_ends_everything_and_says_so(sources, monkeypatch) -> None:
    with running(unit_spec({BYSTANDER: sources[BYSTANDER]})) as engine:

        def corrupt(now):
            raise PoolCorruptError("head block 7 has 2 owners")

        monkeypatch.setattr(engine._scheduler, "schedule", corrupt)
        client = Client(engine)
        for index in range(3):
            submit(client, f"b{index}", BYSTANDER)
            client.wait()
        assert failed(client.results) == {"b0", "b1", "b2"}
        while not engine.is_draining:
            time.sleep(0.001)
        with pytest.raises(RefusedError):
            submit(Client(engine), "more", BYSTANDER)
        assert engine.seconds_since_turn(VICTIM) > 1e9


@pytest.mark.parametrize("where", ["dispatch", "read"])
def test_a_hanging_device_is_seen_and_survived(engine, monkeypatch, where) -> None:
    hang, hanging = threading.Event(), threading.Event()
    owner = {"dispatch": JaxExecutor, "read": RunningJob}[where]
    original = getattr(owner, where)

    def waiting(self, *arguments):
        hanging.set()
        assert hang.wait(20)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, where, waiting)
        client = Client(engine)
        submit(client, "v0", VICTIM)
        assert hanging.wait(20)
        before = engine.seconds_since_turn(VICTIM)
        time.sleep(0.05)
        assert engine.seconds_since_turn(VICTIM) >= before + 0.05
        submit(client, "v1", VICTIM)  # none of these waits for the loop
        engine.abort("v1")
        assert {llm.name: llm.waiting for llm in engine.status().llms}[VICTIM] >= 1
        hang.set()
        results = client.wait()
    assert len(results["v0", 0].token_ids) == TOKENS
    assert results["v1", 0].finish_reason is FinishReason.ABORT
    assert engine.seconds_since_turn(VICTIM) < 5
