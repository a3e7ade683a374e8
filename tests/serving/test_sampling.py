"""The sampler against its definition in float64 NumPy, and its distribution against softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.serving.sampling import MAX_END_IDS, MAX_LOGIT_BIAS, Sampled, SamplingOptions, TokenCounts, _argmax, sample

VOCAB = 97
jitted_sample = jax.jit(sample)


def options(seqs: int, **changed) -> SamplingOptions:
    neutral = {
        "temperature": np.zeros(seqs, np.float32),
        "top_k": np.zeros(seqs, np.int32),
        "top_p": np.ones(seqs, np.float32),
        "min_p": np.zeros(seqs, np.float32),
        "repetition_penalty": np.ones(seqs, np.float32),
        "presence_penalty": np.zeros(seqs, np.float32),
        "frequency_penalty": np.zeros(seqs, np.float32),
        "key": np.arange(2 * seqs, dtype=np.uint32).reshape(seqs, 2),
        "wants_logprobs": np.zeros(seqs, bool),
        "bias_ids": np.full((seqs, MAX_LOGIT_BIAS), VOCAB, np.int32),
        "bias_values": np.zeros((seqs, MAX_LOGIT_BIAS), np.float32),
        "end_ids": np.full((seqs, MAX_END_IDS), VOCAB, np.int32),
        "earliest_end": np.zeros(seqs, np.int32),
    }
    for name, value in changed.items():
        neutral[name] = np.broadcast_to(np.asarray(value, neutral[name].dtype), neutral[name].shape)
    return SamplingOptions(**{name: jnp.asarray(value) for name, value in neutral.items()})


def counts(seqs: int, prompt=(), output=()) -> TokenCounts:
    in_prompt, in_output = np.zeros((seqs, VOCAB), bool), np.zeros((seqs, VOCAB), np.int16)
    in_prompt[:, list(prompt)] = True
    for token in output:
        in_output[:, token] += 1
    return TokenCounts(jnp.asarray(in_prompt), jnp.asarray(in_output))


def random_logits(seqs: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((seqs, VOCAB)) * scale).astype(np.float32)


def run(logits, opts, cnts=None, position: int = 0) -> Sampled:
    seqs = logits.shape[0]
    slots = jnp.arange(seqs, dtype=jnp.int32)
    return jitted_sample(jnp.asarray(logits), opts, cnts or counts(seqs), slots, jnp.full(seqs, position, jnp.int32))


def draws(logits_row: np.ndarray, num: int = 4000, **changed) -> np.ndarray:
    """How often each token is drawn, over `num` rows with different keys."""
    logits = np.broadcast_to(logits_row, (num, VOCAB))
    tokens = np.asarray(run(logits, options(num, temperature=changed.pop("temperature", 1.0), **changed)).tokens)
    return np.bincount(tokens, minlength=VOCAB) / num


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max())
    return e / e.sum()


def test_temperature_zero_is_greedy():
    logits = random_logits(5)
    assert np.array_equal(run(logits, options(5)).tokens, logits.argmax(-1))


def test_drawn_tokens_follow_the_softmax():
    logits = random_logits(1)[0]
    assert np.abs(draws(logits) - softmax(logits)).max() < 0.03
    assert np.abs(draws(logits, temperature=3.0) - softmax(logits / 3)).max() < 0.03


def test_greedy_and_sampled_rows_share_a_batch():
    logits = random_logits(2)
    temperature = np.array([0.0, 1.0])
    tokens = run(logits, options(2, temperature=temperature)).tokens
    assert tokens[0] == logits[0].argmax()


@pytest.mark.parametrize("k", [1, 2, 7, VOCAB, 10 * VOCAB])
def test_top_k_draws_only_the_k_likeliest(k):
    logits = random_logits(1)[0]
    kept = set(np.argsort(-logits)[:k])
    drawn = set(np.nonzero(draws(logits, top_k=k, temperature=5.0))[0])
    assert drawn <= kept
    assert len(drawn) >= min(k, 7)


@pytest.mark.parametrize("p", [1e-6, 0.3, 0.9, 0.999])
def test_top_p_draws_only_the_nucleus(p):
    logits = random_logits(1)[0]
    order = np.argsort(-logits)
    cumulative = np.cumsum(softmax(logits)[order])
    nucleus = set(order[: int(np.searchsorted(cumulative, p)) + 1])
    frequency = draws(logits, top_p=p)
    assert set(np.nonzero(frequency)[0]) <= nucleus
    expected = np.where(np.isin(np.arange(VOCAB), list(nucleus)), softmax(logits), 0)
    assert np.abs(frequency - expected / expected.sum()).max() < 0.03


def test_top_p_works_on_what_top_k_left():
    logits = np.full(VOCAB, -50, np.float32)
    logits[:4] = np.log([0.4, 0.3, 0.2, 0.1])
    # Of the two likeliest, renormalised to 4/7 and 3/7, the first alone reaches 0.55.
    assert draws(logits, top_k=2, top_p=0.55)[0] == 1


def test_min_p_is_relative_to_the_likeliest():
    logits = random_logits(1)[0]
    probabilities = softmax(logits)
    drawn = np.nonzero(draws(logits, min_p=0.2))[0]
    assert set(drawn) <= set(np.nonzero(probabilities >= 0.2 * probabilities.max() * 0.9999)[0])
    assert len(drawn) > 1


def test_filters_keep_ties_and_negative_and_extreme_logits():
    logits = np.full(VOCAB, -1e30, np.float32)
    logits[[3, 5]] = -7.0
    assert set(np.nonzero(draws(logits, top_k=1))[0]) == {3, 5}
    assert set(np.nonzero(draws(logits, top_p=0.1))[0]) == {3, 5}


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits_of_seen_tokens():
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, :4] = [4.0, 3.0, -1.0, 2.5]
    # Token 0 is in the prompt and 1 in the output: 4/2 and 3/2 fall below 2.5.
    tokens = run(logits, options(1, repetition_penalty=2.0), counts(1, prompt=[0], output=[1])).tokens
    assert tokens[0] == 3
    negative = np.full((1, VOCAB), -9.0, np.float32)
    negative[0, :2] = [-1.0, -1.5]
    assert run(negative, options(1, repetition_penalty=2.0), counts(1, prompt=[0])).tokens[0] == 1


def test_presence_and_frequency_penalties_count_the_output_only():
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, :3] = [2.0, 1.6, 1.2]
    seen = counts(1, prompt=[2], output=[0, 0, 1])
    assert run(logits, options(1, presence_penalty=0.7), seen).tokens[0] == 0
    assert run(logits, options(1, presence_penalty=1.0), seen).tokens[0] == 2
    assert run(logits, options(1, frequency_penalty=0.3), seen).tokens[0] == 0
    assert run(logits, options(1, frequency_penalty=0.41), seen).tokens[0] == 2


def test_logit_bias_adds_to_single_tokens():
    ids, values = np.full((1, MAX_LOGIT_BIAS), VOCAB), np.zeros((1, MAX_LOGIT_BIAS))
    ids[0, 0], values[0, 0] = 42, 100.0
    opts = options(1, bias_ids=ids, bias_values=values)
    assert run(random_logits(1), opts).tokens[0] == 42


def test_ends_are_impossible_before_min_tokens():
    logits = random_logits(2)
    best = logits.argmax(-1)
    ends = np.full((2, MAX_END_IDS), VOCAB)
    ends[:, 0] = best
    tokens = run(logits, options(2, end_ids=ends, earliest_end=[1, 0])).tokens
    assert tokens[0] == np.argsort(-logits[0])[1]
    assert tokens[1] == best[1]


def test_logprobs_are_the_models_own_whatever_the_options():
    logits = random_logits(2)
    sampled = run(logits, options(2, temperature=2.0, top_k=5, wants_logprobs=[True, False]))
    expected = np.log(softmax(logits[0]))
    assert np.isclose(sampled.logprobs[0], expected[sampled.tokens[0]], atol=1e-5)
    assert np.array_equal(sampled.top_ids[0], np.argsort(-expected)[:20])
    assert np.allclose(sampled.top_logprobs[0], np.sort(expected)[::-1][:20], atol=1e-5)


def test_a_row_draws_the_same_token_in_any_batch_and_another_at_another_position():
    logits = random_logits(8, scale=0.5)
    opts = options(8, temperature=1.0, top_p=0.95)
    together = np.asarray(run(logits, opts, position=7).tokens)
    for row in range(8):
        alone = SamplingOptions(*(np.asarray(leaf)[row : row + 1] for leaf in opts))
        assert run(logits[row : row + 1], alone, position=7).tokens[0] == together[row]
    assert not np.array_equal(together, run(logits, opts, position=8).tokens)


@pytest.mark.parametrize("vocab", [5, 128, 131, 32_000])
def test_the_first_of_equal_logits_is_the_greedy_token(vocab):
    logits = np.random.default_rng(vocab).integers(0, 3, (6, vocab)).astype(np.float32)
    logits[0] = -np.inf
    assert np.array_equal(jax.jit(_argmax)(logits), logits.argmax(-1))
