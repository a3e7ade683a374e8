"""A request's tokens do not depend on what else runs: alone, beside others, chunked, preempted and recomputed.

Everything is in float32, on three LLMs of different depth, head count and head size that share one pool.
"""

import random

import pytest

from muxjax.serving.request import FinishReason, Request, SamplingParams
from tests.serving.unit_under_test import MAX_CONTEXT, VOCAB, Client, Result, running, unit_spec, write_configs

NUM_REQUESTS = 200


def random_sampling(rng: random.Random) -> SamplingParams:
    kind = rng.choice(["greedy", "greedy", "plain", "filtered", "penalised"])
    common = {
        "max_tokens": rng.choice([1, rng.randint(2, 30), rng.randint(30, 60), rng.randint(100, 200)]),
        "seed": rng.getrandbits(63),
        "logprobs": rng.choice([None, 0, 3]),
    }
    if kind == "greedy":
        return SamplingParams(temperature=0, **common)
    if kind == "plain":
        return SamplingParams(temperature=rng.choice([0.3, 1.0, 1.5]), **common)
    if kind == "filtered":
        return SamplingParams(temperature=1.0, top_k=rng.choice([0, 5, 40]), top_p=0.9, min_p=0.02, **common)
    return SamplingParams(
        temperature=rng.choice([0, 0.8]),
        repetition_penalty=1.3,
        presence_penalty=0.4,
        frequency_penalty=0.3,
        logit_bias={rng.randrange(VOCAB): 2.5},
        stop_token_ids=(rng.randrange(VOCAB),),
        min_tokens=1,
        **common,
    )


def random_requests(llms: list[str], num: int, seed: int) -> list[Request]:
    rng = random.Random(seed)
    requests = []
    for index in range(num):
        sampling = random_sampling(rng)
        if sampling.min_tokens > sampling.max_tokens:
            continue
        longest = MAX_CONTEXT - sampling.max_tokens
        prompt = tuple(
            rng.randrange(VOCAB)
            for _ in range(rng.choice([1, 31, 33, 64, rng.randint(1, longest), rng.randint(1, longest)]))
        )
        requests.append(Request(f"r{index}", rng.choice(llms), prompt, sampling))
    return requests


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_configs(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def alone(sources) -> tuple[list[Request], dict[str, Result]]:
    """Every request's result with nothing beside it and its prompt in as few chunks as can be."""
    requests = random_requests(list(sources), NUM_REQUESTS, seed=7)
    with running(unit_spec(sources, max_prefill_tokens=256)) as engine:
        return requests, {request.id: Client(engine).run(request) for request in requests}


def assert_same(results, alone: dict[str, Result]) -> None:
    for (request_id, _), result in results.items():
        expected = alone[request_id]
        assert result.token_ids == expected.token_ids, request_id
        assert result.finish_reason is expected.finish_reason
        assert len(result.logprobs) == len(expected.logprobs)
        for mine, theirs in zip(result.logprobs, expected.logprobs, strict=True):
            assert mine.chosen == pytest.approx(theirs.chosen, abs=1e-3)


@pytest.mark.parametrize(("policy", "num_blocks"), [("adbs", 80), ("fcfs", 48), ("round_robin", 80)])
def test_tokens_are_the_same_together_in_small_chunks_and_under_memory_pressure(sources, alone, policy, num_blocks):
    requests, expected = alone
    # A few of the longest sequences fit, where 24 could run.
    spec = unit_spec(sources, num_blocks=num_blocks, policy=policy, max_prefill_tokens=48, quota_period=0.05)
    with running(spec) as engine:
        client = Client(engine)
        for request in requests:
            client.submit(request)
        results = client.wait()
        preemptions = sum(llm.preemptions for llm in engine.status().llms)
    assert preemptions > 0, "the pool was not small enough to test preemption"
    assert_same(results, expected)


@pytest.mark.parametrize("max_decode_steps", [1, 8])
def test_tokens_are_the_same_while_others_come_and_go(sources, alone, max_decode_steps):
    requests, expected = alone
    rng = random.Random(11)
    with running(unit_spec(sources, max_decode_steps=max_decode_steps)) as engine:
        client = Client(engine)
        aborted = set()
        for request in requests:
            client.submit(request)
            if rng.random() < 0.3:
                victim = Request(f"victim-{request.id}", request.llm, request.prompt_token_ids, request.sampling)
                client.submit(victim)
                aborted.add(victim.id)
            for _ in range(rng.randrange(40)):
                if client.is_waiting:
                    client.take()
            if aborted and rng.random() < 0.5:
                engine.abort(rng.choice(sorted(aborted)))
        results = client.wait()
    victims = {key: result for key, result in results.items() if key[0] in aborted}
    assert any(result.finish_reason is FinishReason.ABORT for result in victims.values())
    for (request_id, _), result in victims.items():
        whole = expected[request_id.removeprefix("victim-")].token_ids
        assert result.token_ids == whole[: len(result.token_ids)]
    assert_same({key: result for key, result in results.items() if key[0] not in aborted}, expected)
