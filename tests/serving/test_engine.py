"""What the engine promises to whoever submits: every request ends once, for the right reason, and harms no other."""

import threading
import time

import pytest

from muxjax.serving.engine import Engine
from muxjax.serving.errors import ModelNotReady, UnknownModel
from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.plan import plan_unit
from muxjax.serving.progress import LLMState
from muxjax.serving.request import FinishReason, Request, SamplingParams
from muxjax.serving.spec import SLO
from muxjax.serving.unit import RefusedError
from tests.serving.unit_under_test import VOCAB, Client, greedy, running, unit_spec, write_configs


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_configs(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def engine(sources):
    with running(unit_spec(sources, max_sequences=4, max_waiting=20)) as engine:
        yield engine


@pytest.fixture
def client(engine) -> Client:
    return Client(engine)


def request(id_: str, sampling: SamplingParams, prompt=(1, 2, 3), llm: str = "small", deadline=None) -> Request:
    return Request(id_, llm, tuple(prompt), sampling, deadline)


def test_ends_at_max_tokens(client):
    result = client.run(request("a", greedy(7)))
    assert len(result.token_ids) == 7
    assert result.finish_reason is FinishReason.LENGTH


def test_ends_at_a_stop_token_which_is_the_last_one(client):
    whole = client.run(request("whole", greedy(40))).token_ids
    stop = whole[25]
    first = whole.index(stop)
    result = client.run(request("stopped", greedy(40, stop_token_ids=(stop,))))
    assert result.token_ids == whole[: first + 1]
    assert result.finish_reason is FinishReason.STOP


def test_no_stop_token_comes_before_min_tokens(client):
    whole = client.run(request("whole", greedy(30))).token_ids
    result = client.run(request("late", greedy(30, stop_token_ids=tuple(whole[:10]), min_tokens=12)))
    assert not set(result.token_ids[:12]) & set(whole[:10])


def test_n_completions_are_reported_by_index(client):
    client.submit(request("n", SamplingParams(n=4, seed=5, max_tokens=6)))
    results = client.wait()
    assert {index for _, index in results} == {0, 1, 2, 3}
    assert len({tuple(result.token_ids) for result in results.values()}) == 4


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(client):
    one, same, other = (
        client.run(request(name, SamplingParams(seed=seed, max_tokens=12))).token_ids
        for name, seed in [("one", 1), ("same", 1), ("other", 2)]
    )
    assert one == same != other


def test_logprobs_come_for_those_who_asked(client):
    client.submit(request("with", greedy(4, logprobs=5)))
    client.submit(request("without", greedy(4)))
    results = client.wait()
    assert results["without", 0].logprobs == []
    for token, entry in zip(results["with", 0].token_ids, results["with", 0].logprobs, strict=True):
        assert len(entry.top_ids) == 5
        assert entry.top_ids[0] == token  # greedy
        assert entry.chosen == entry.top_logprobs[0] == max(entry.top_logprobs)


def test_penalties_survive_preemption_of_counts_in_the_slot(client):
    """A slot's counts are those of its sequence, not of the one before."""
    sampling = greedy(30, frequency_penalty=2.0, presence_penalty=1.0)
    fresh = client.run(request("fresh", sampling)).token_ids
    client.run(request("between", greedy(30, frequency_penalty=2.0), prompt=range(50)))
    assert client.run(request("again", sampling)).token_ids == fresh
    assert len(set(fresh)) > 20, "penalties have no effect"


def test_an_abort_ends_a_running_and_a_waiting_request_only(engine, client):
    for index in range(8):  # four run, four wait
        client.submit(request(f"r{index}", greedy(200)))
    client.take()
    for victim in ("r0", "r7", "nobody"):
        engine.abort(victim)
    results = client.wait()
    aborted = {name for (name, _), result in results.items() if result.finish_reason is FinishReason.ABORT}
    assert aborted == {"r0", "r7"}
    assert all(len(result.token_ids) == 200 for (name, _), result in results.items() if name not in aborted)


def test_a_deadline_ends_a_request_wherever_it_is(client):
    now = time.monotonic()
    client.submit(request("late", greedy(300), deadline=now - 1))
    client.submit(request("fine", greedy(5), deadline=now + 60))
    results = client.wait()
    assert results["late", 0].finish_reason is FinishReason.DEADLINE
    assert results["fine", 0].finish_reason is FinishReason.LENGTH


def test_a_full_queue_refuses_with_a_hint_and_takes_none_of_the_n(engine, client):
    for index in range(20):
        client.submit(request(f"r{index}", greedy(30)))
    with pytest.raises(RefusedError, match="full") as refusal:
        engine.submit(request("many", SamplingParams(n=16, max_tokens=2)), client.deliver)
    assert refusal.value.retry_after > 0
    assert all(len(result.token_ids) == 30 for result in client.wait().values())


def test_unknown_llms_are_refused_by_name(engine, client):
    with pytest.raises(UnknownModel, match="smal"):
        engine.submit(request("a", greedy(1), llm="smal"), client.deliver)


def test_requests_from_many_threads_all_end(engine):
    clients = [Client(engine) for _ in range(4)]

    def work(client: Client, offset: int) -> None:
        for index in range(5):
            client.run(request(f"t{offset}-{index}", greedy(10), prompt=[offset + 1], llm=["small", "odd"][index % 2]))

    threads = [threading.Thread(target=work, args=(client, offset)) for offset, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert all(len(result.token_ids) == 10 for client in clients for result in client.results.values())


def test_status_counts_tokens_and_blocks(engine, client):
    before = {llm.name: llm for llm in engine.status().llms}["wide"]
    client.run(request("a", greedy(5), prompt=range(40), llm="wide"))
    status = engine.status()
    after = {llm.name: llm for llm in status.llms}["wide"]
    assert after.prompt_tokens - before.prompt_tokens == 40
    assert after.generated_tokens - before.generated_tokens == 5
    assert after.state == "ready"
    assert (after.waiting, after.running, after.blocks_used) == (0, 0, 0)
    assert status.blocks_free == status.blocks_total


def test_status_says_who_takes_the_steps_time_and_how_fast_it_is(sources):
    promised = SLO(ttft=60.0, tpot=1e-9)
    with running(unit_spec({"small": sources["small"], "odd": sources["odd"]}, slo=promised)) as engine:
        client = Client(engine)
        for index in range(6):
            client.submit(request(f"r{index}", greedy(30), prompt=range(60)))
        client.wait()
        status = engine.status()
    small, odd = status.llms
    assert small.prefill_share > 0
    assert small.decode_share > 0
    assert small.prefill_share + small.decode_share == pytest.approx(1)
    assert (odd.prefill_share, odd.decode_share, odd.tokens_per_second) == (0, 0, 0)
    assert 0 < status.busy <= 1
    assert small.tokens_per_second > 0
    assert 0 < small.tpot.p50 <= small.tpot.p99 < small.ttft.p99 + 60
    assert (odd.ttft, odd.tpot, odd.slo_attainment) == (None, None, None)
    assert (small.slo, small.slo_attainment) == (promised, 0.0)
    assert (small.errors, small.blocks_borrowed) == (0, 0)
    assert small.blocks_entitled == small.blocks_quota


def test_a_failed_step_ends_what_ran_and_the_engine_goes_on(engine, client, monkeypatch):
    before = client.run(request("before", greedy(20))).token_ids
    dispatch = JaxExecutor.dispatch
    failures = iter([True])

    def failing(self, job, completions):
        if next(failures, False):
            raise RuntimeError("the device is on fire")
        return dispatch(self, job, completions)

    monkeypatch.setattr(JaxExecutor, "dispatch", failing)
    lost = client.run(request("lost", greedy(20)))
    assert lost.finish_reason is FinishReason.ERROR
    assert "on fire" not in lost.error, "internals do not leave the server"
    assert client.run(request("after", greedy(20))).token_ids == before


def test_draining_refuses_new_requests_and_finishes_the_running_ones(sources):
    with running(unit_spec({"small": sources["small"]})) as engine:
        client = Client(engine)
        client.submit(request("running", greedy(60)))
        drained = threading.Thread(target=lambda: engine.drain(30))
        drained.start()
        while not engine.is_draining:
            time.sleep(0.001)
        with pytest.raises(RefusedError, match="shutting down"):
            engine.submit(request("new", greedy(1)), client.deliver)
        drained.join()
        assert len(client.wait()["running", 0].token_ids) == 60


def test_closing_aborts_what_runs(sources):
    with running(unit_spec({"small": sources["small"]})) as engine:
        client = Client(engine)
        client.submit(request("running", greedy(300)))
        client.take()
        engine.close()
        assert client.wait()["running", 0].finish_reason is FinishReason.ABORT


def test_an_llm_that_cannot_be_loaded_is_reported_and_the_others_serve(sources, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((tmp_path / write_configs(tmp_path)["odd"].removeprefix("random:")).read_text())
    news = []
    engine = Engine(plan_unit(unit_spec({"broken": str(broken), "small": sources["small"]})), news.append)
    engine.start()
    try:
        while not any(progress.llm == "small" and progress.state is LLMState.READY for progress in news):
            time.sleep(0.01)
        failed = next(progress for progress in news if progress.state is LLMState.FAILED)
        assert failed.llm == "broken"
        assert "safetensors" in failed.error
        client = Client(engine)
        assert len(client.run(request("a", greedy(3))).token_ids) == 3
        with pytest.raises(ModelNotReady, match="broken"):
            engine.submit(request("b", greedy(1), llm="broken"), client.deliver)
        assert {llm.name: llm.state for llm in engine.status().llms} == {"broken": "failed", "small": "ready"}
    finally:
        engine.close()


@pytest.mark.parametrize("bias", [{VOCAB - 1: 100.0}, {0: 100.0, 5: 50.0}])
def test_logit_bias_decides(client, bias):
    best = max(bias, key=bias.get)
    assert client.run(request("biased", greedy(3, logit_bias=bias))).token_ids == [best] * 3
