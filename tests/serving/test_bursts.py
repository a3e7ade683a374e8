"""Several decode steps are given to the device at once, and each token is handed out as it comes."""

import pytest

from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.request import FinishReason, Request
from muxjax.serving.scheduler.job import JobKind
from tests.serving.unit_under_test import Client, greedy, running, unit_spec, write_configs

MOST = 8
PROMPT = (1, 2, 3)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    sources = write_configs(tmp_path_factory.mktemp("configs"))
    return {"small": sources["small"], "odd": sources["odd"]}


@pytest.fixture(scope="module")
def shared(sources):
    with running(unit_spec(sources, max_sequences=4, max_decode_steps=MOST)) as engine:
        yield engine


@pytest.fixture
def log(monkeypatch) -> list[tuple[str, str]]:
    """What the device was given: by itself, or once more."""
    given: list[tuple[str, str]] = []
    dispatch, repeat = JaxExecutor.dispatch, JaxExecutor.repeat

    def dispatching(self, job, completions):
        given.append((job.llm, job.kind.value))
        return dispatch(self, job, completions)

    def repeating(self, launch):
        given.append((launch.jobs[0].job.llm, "repeat"))
        return repeat(self, launch)

    monkeypatch.setattr(JaxExecutor, "dispatch", dispatching)
    monkeypatch.setattr(JaxExecutor, "repeat", repeating)
    return given


def test_tokens_come_one_by_one_from_few_dispatches(shared, log) -> None:
    client = Client(shared)
    client.submit_prompt("a", "small", PROMPT, greedy(60))
    outputs = []
    while client.is_waiting:
        outputs.append(client.take())
    assert all(len(output.token_ids) == 1 for output in outputs)
    assert len(outputs) == 60
    assert log.count(("small", "repeat")) > 40


def test_llms_take_turns_within_a_burst(shared, log) -> None:
    client = Client(shared)
    for llm in ("small", "odd"):
        client.submit_prompt(llm, llm, PROMPT, greedy(60))
    client.wait()
    repeats = [llm for llm, how in log if how == "repeat"]
    assert repeats[10 : 10 + MOST] in (["small", "odd"] * (MOST // 2), ["odd", "small"] * (MOST // 2))


def test_tokens_after_a_stop_are_dropped(shared, log) -> None:
    whole = Client(shared).run_prompt("whole", "small", PROMPT, greedy(60)).token_ids
    stop = next(token for place, token in enumerate(whole) if place > 20 and token not in whole[:place])
    end = whole.index(stop) + 1
    result = Client(shared).run_prompt("stopped", "small", PROMPT, greedy(60, stop_token_ids=(stop,)))
    assert result.token_ids == whole[:end]
    assert result.finish_reason is FinishReason.STOP
    assert ("small", "repeat") in log


def test_a_prompt_waits_for_one_burst_at_most(shared, log, monkeypatch) -> None:
    """It comes when a burst has just been given to the device."""
    client, came = Client(shared), []
    repeat = JaxExecutor.repeat

    def repeating(self, launch):
        if len(log) > 30 and not came:
            came.append(len(log))
            shared.submit(Request("b", "odd", PROMPT, greedy(5)), client.deliver)
        return repeat(self, launch)

    monkeypatch.setattr(JaxExecutor, "repeat", repeating)
    client.results["b", 0] = type(client.run_prompt("warm", "odd", PROMPT, greedy(1)))()
    log.clear()
    client.submit_prompt("a", "small", PROMPT, greedy(200))
    client.wait()
    assert log[came[0] :].index(("odd", "prefill")) <= MOST


@pytest.mark.parametrize("loses_the_pool", [False, True])
def test_a_fault_within_a_burst_costs_the_requests_of_its_job_only(shared, log, monkeypatch, loses_the_pool) -> None:
    expected = Client(shared).run_prompt("alone", "odd", PROMPT, greedy(60)).token_ids
    repeat, faults = JaxExecutor.repeat, []

    def failing(self, launch):
        if launch.jobs[0].job.llm == "small" and len(log) > 40 and not faults:
            faults.append(launch)
            if loses_the_pool:
                self._array.delete()
            raise RuntimeError("the device is on fire")
        return repeat(self, launch)

    monkeypatch.setattr(JaxExecutor, "repeat", failing)
    log.clear()
    client = Client(shared)
    client.submit_prompt("lost", "small", PROMPT, greedy(100))
    client.submit_prompt("kept", "odd", PROMPT, greedy(60))
    results = client.wait()
    assert faults
    assert results["lost", 0].finish_reason is FinishReason.ERROR
    assert results["kept", 0].token_ids == expected
    assert faults[0].jobs[0].job.kind is JobKind.DECODE
