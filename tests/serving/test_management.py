"""LLMs that come and go, and shares that change, while others serve."""

import gc
import threading
import time

import jax
import pytest

from muxjax.serving.engine import Engine
from muxjax.serving.errors import ModelNotReady, UnknownModel
from muxjax.serving.management import ManagementError
from muxjax.serving.progress import LLMState
from muxjax.serving.request import FinishReason, Request
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.spec import LLMSpec
from tests.serving.test_faults import Fault, out_of_memory, raise_before
from tests.serving.unit_under_test import SHAPES, Client, greedy, running, unit_spec, wait_until_ready, write_configs


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_configs(tmp_path_factory.mktemp("configs"))


@pytest.fixture
def engine(sources):
    with running(unit_spec({"small": sources["small"]})) as engine:
        yield engine


def spec(sources: dict[str, str], name: str = "odd", **changed: object) -> LLMSpec:
    return LLMSpec(name, sources[name], max_sequences=8, **changed)


def figures(engine: Engine) -> dict[str, tuple[str, int]]:
    return {llm.name: (llm.state, llm.blocks_quota) for llm in engine.status().llms}


def num_arrays(name: str) -> int:
    """Arrays on the device with the hidden size of one of the shapes, all of which differ."""
    gc.collect()
    return sum(SHAPES[name]["hidden_size"] in array.shape for array in jax.live_arrays())


def ask(engine: Engine, llm: str, tokens: int = 20, name: str = "r") -> list[int]:
    return Client(engine).run(Request(name, llm, (1, 2, 3), greedy(tokens))).token_ids


def test_an_llm_is_loaded_and_unloaded_while_another_serves_and_gives_its_memory_back(engine, sources) -> None:
    expected = ask(engine, "small", 200)
    alone, without = figures(engine), num_arrays("odd")
    client = Client(engine)
    for index in range(6):
        client.submit(Request(f"s{index}", "small", (1, 2, 3), greedy(200)))

    engine.load(spec(sources))
    assert figures(engine)["odd"][0] == "loading"
    with pytest.raises(ModelNotReady):
        ask(engine, "odd")
    wait_until_ready(engine)
    assert len(ask(engine, "odd")) == 20
    assert num_arrays("odd") > without
    shared = figures(engine)
    assert shared["small"][1] < alone["small"][1]
    engine.unload("odd", seconds=10)

    assert figures(engine) == alone
    with pytest.raises(UnknownModel):
        ask(engine, "odd")
    assert all(result.token_ids == expected for result in client.wait().values())
    deadline = time.monotonic() + 60
    while num_arrays("odd") > without:  # a program of it may still be compiled in the background
        assert time.monotonic() < deadline, "the weights are still on the device"
        time.sleep(0.1)


def test_an_llm_can_come_back_with_the_same_tokens(engine, sources) -> None:
    answers = []
    for _ in range(2):
        engine.load(spec(sources))
        wait_until_ready(engine)
        answers.append(ask(engine, "odd"))
        engine.unload("odd", seconds=10)
    assert answers[0] == answers[1]


def test_unloading_lets_what_runs_finish_and_ends_it_when_the_time_is_over(engine, sources) -> None:
    engine.load(spec(sources))
    wait_until_ready(engine)
    client = Client(engine)
    client.submit(Request("finishes", "odd", (1, 2, 3), greedy(50)))
    unloading = threading.Thread(target=lambda: engine.unload("odd", seconds=30))
    unloading.start()
    assert client.wait()["finishes", 0].finish_reason is FinishReason.LENGTH
    unloading.join()

    engine.load(spec(sources))
    wait_until_ready(engine)
    client = Client(engine)
    for index in range(12):
        client.submit(Request(f"ends{index}", "odd", (1, 2, 3), greedy(300)))
    client.take()
    engine.unload("odd", seconds=0)
    assert FinishReason.ABORT in {result.finish_reason for result in client.wait().values()}


def test_draining_refuses_what_is_new_until_the_llm_is_resumed(engine) -> None:
    engine.drain_llm("small")
    with pytest.raises(ModelNotReady, match="small is draining"):
        ask(engine, "small")
    assert figures(engine)["small"][0] == "draining"
    with pytest.raises(ManagementError, match="small is draining, not ready"):
        engine.drain_llm("small")
    engine.resume_llm("small")
    assert len(ask(engine, "small")) == 20


def test_a_given_up_llm_is_loaded_again(sources, monkeypatch) -> None:
    with running(unit_spec({"odd": sources["odd"], "small": sources["small"]})) as engine:
        expected = ask(engine, "odd")
        with monkeypatch.context() as patch:
            raise_before(patch, Fault(JobKind.PREFILL, first=0, times=3), out_of_memory())
            for index in range(3):
                assert ask(engine, "odd", name=f"f{index}") == []
        assert figures(engine)["odd"][0] == LLMState.FAILED
        engine.load(spec(sources))
        wait_until_ready(engine)
        assert ask(engine, "odd") == expected


def test_rates_and_quotas_move_the_pool(sources) -> None:
    with running(unit_spec({"odd": sources["odd"], "small": sources["small"]})) as engine:
        before = figures(engine)
        engine.set_rate("odd", 9.0)
        raised = figures(engine)
        assert raised["odd"][1] > before["odd"][1]
        assert raised["small"][1] < before["small"][1]
        engine.set_quota("odd", 500)
        assert figures(engine)["odd"][1] == 500
        status = {llm.name: llm for llm in engine.status().llms}["odd"]
        assert status.blocks_borrowed == 500 - raised["odd"][1]
        assert len(ask(engine, "odd")) == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda engine, s: engine.set_rate("smal", 1.0), "no model 'smal' here .did you mean 'small'"),
        (lambda engine, s: engine.set_rate("small", float("nan")), "rate must be positive and finite"),
        (lambda engine, s: engine.set_quota("small", 1), "must lie between 6 head blocks"),
        (lambda engine, s: engine.set_quota("small", 10**9), "the pool's 1999"),
        (lambda engine, s: engine.unload("nobody", 1), "no model 'nobody'"),
        (lambda engine, s: engine.resume_llm("small"), "small is ready, not draining"),
        (lambda engine, s: engine.load(LLMSpec("small", s["small"])), "small is ready already: unload it first"),
        (lambda engine, s: engine.load(LLMSpec("gone", "/no/such")), "llms.gone.source"),
        (lambda engine, s: engine.load(LLMSpec("odd", s["odd"], max_context=10**6)), "more than the model's own"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(engine, sources, change, words) -> None:
    before = figures(engine)
    with pytest.raises(ManagementError, match=words):
        change(engine, sources)
    assert figures(engine) == before
