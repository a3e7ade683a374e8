"""On-device sampling: every option is data, so that one program serves any mix of requests.

Work that no row asks for is skipped at run time (`lax.cond`), not compile time.

Under tensor parallelism each device has the logits and counts of its part of the vocabulary, its columns. Devices tell
each other their likeliest tokens; only filters and log probabilities, where asked for, are worked out from all columns,
by each device, so that they are exactly those of one device.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int16, Int32, UInt32

from muxjax.models.collectives import (
    gather_columns,
    num_devices,
    own_ids,
    own_part,
    own_places,
    sum_over_devices,
)
from muxjax.serving.random_bits import threefry2x32

MAX_LOGPROBS = 20
MAX_LOGIT_BIAS = 300
MAX_END_IDS = 80

NOT_FINITE = -1
"""The token of a sequence whose logits are not all finite: the model, or what it was given, is broken."""

_NEVER = float(np.finfo(np.float32).min)


class SamplingOptions(NamedTuple):
    """One row per sequence; neutral values switch an option off (see `SamplingParams` for their meaning)."""

    temperature: Float[Array, "seqs"]
    top_k: Int32[Array, "seqs"]
    top_p: Float[Array, "seqs"]
    min_p: Float[Array, "seqs"]
    repetition_penalty: Float[Array, "seqs"]
    presence_penalty: Float[Array, "seqs"]
    frequency_penalty: Float[Array, "seqs"]
    key: UInt32[Array, "seqs 2"]
    wants_logprobs: Bool[Array, "seqs"]
    bias_ids: Int32[Array, "seqs bias"]  # padded with the vocabulary's size
    bias_values: Float[Array, "seqs bias"]
    end_ids: Int32[Array, "seqs ends"]  # padded likewise
    earliest_end: Int32[Array, "seqs"]  # the position before which end_ids are impossible (min_tokens)


class TokenCounts(NamedTuple):
    """What penalties need to know about the tokens so far of the sequence in each slot."""

    in_prompt: Bool[Array, "slots vocab"]
    in_output: Int16[Array, "slots vocab"]


class Sampled(NamedTuple):
    """The chosen tokens, and the model's own log probabilities (before any option) where asked for.

    The token is NOT_FINITE where the logits are not.
    """

    tokens: Int32[Array, "seqs"]
    logprobs: Float[Array, "seqs"]
    top_ids: Int32[Array, "seqs top"]
    top_logprobs: Float[Array, "seqs top"]


def sample(
    logits: Float[Array, "seqs vocab"],
    options: SamplingOptions,
    counts: TokenCounts,
    slots: Int32[Array, "seqs"],
    positions: Int32[Array, "seqs"],
) -> Sampled:
    """Choose each sequence's next token.

    Args:
        logits: float32, as the model gives them.
        options: the sequences' options.
        counts: the tokens so far, by slot.
        slots: the sequences' slots.
        positions: the position of the token to choose; with the request's key it fixes the randomness, so that a
            request's tokens do not depend on what else runs.
    """
    is_plain = jnp.all(_is_plain(options, positions))
    tokens = jax.lax.cond(is_plain, lambda: _argmax(logits), lambda: _choose(logits, options, counts, slots, positions))
    total = sum_over_devices(jnp.sum(logits, axis=-1))  # a maximum would not do: on CPUs it passes over NaN
    is_finite = jnp.isfinite(total)
    return Sampled(jnp.where(is_finite, tokens, NOT_FINITE), *_report_logprobs(logits, tokens, options.wants_logprobs))


def _is_plain(options: SamplingOptions, positions: Int32[Array, "seqs"]) -> Bool[Array, "seqs"]:
    """Whether a row takes the likeliest token of the logits as they are."""
    return ~(
        (options.temperature > 0) | _is_penalised(options) | _is_biased(options) | (positions < options.earliest_end)
    )


def _is_penalised(options: SamplingOptions) -> Bool[Array, "seqs"]:
    return (options.repetition_penalty != 1) | (options.presence_penalty != 0) | (options.frequency_penalty != 0)


def _is_biased(options: SamplingOptions) -> Bool[Array, "seqs"]:
    return jnp.any(options.bias_values != 0, axis=-1)


def _choose(
    logits: Float[Array, "seqs vocab"],
    options: SamplingOptions,
    counts: TokenCounts,
    slots: Int32[Array, "seqs"],
    positions: Int32[Array, "seqs"],
) -> Int32[Array, "seqs"]:
    adjusted = _adjust(logits, options, counts, slots, positions)
    is_drawn = options.temperature > 0
    scores = jax.lax.cond(
        jnp.any(is_drawn),
        lambda: jnp.where(is_drawn[:, None], _noisy(adjusted, options, positions), adjusted),
        lambda: adjusted,
    )
    return _argmax(scores)


def _argmax(values: Float[Array, "seqs vocab"]) -> Int32[Array, "seqs"]:
    """The id of the first largest value, of all devices' columns."""
    own = _argmax_of_own(values)
    if num_devices() == 1:
        return own
    largest = gather_columns(jnp.take_along_axis(values, own[:, None], axis=1))
    ids = gather_columns(own_ids(values.shape[1])[own][:, None])
    return jnp.take_along_axis(ids, jnp.argmax(largest, axis=1)[:, None], axis=1)[:, 0]


def _argmax_of_own(values: Float[Array, "seqs vocab"]) -> Int32[Array, "seqs"]:
    """The first largest value's index, like jnp.argmax, which XLA does not vectorise on CPUs: 15 times faster."""
    seqs, vocab = values.shape
    lanes = min(128, vocab)
    padded = jnp.pad(values, ((0, 0), (0, -vocab % lanes)), constant_values=-jnp.inf)
    tiles = padded.reshape(seqs, -1, lanes)
    best_tile = jnp.argmax(jnp.max(tiles, axis=-1), axis=-1)
    lane = jnp.argmax(jnp.take_along_axis(tiles, best_tile[:, None, None], axis=1)[:, 0], axis=-1)
    return (best_tile * lanes + lane).astype(jnp.int32)


def _adjust(
    logits: Float[Array, "seqs vocab"],
    options: SamplingOptions,
    counts: TokenCounts,
    slots: Int32[Array, "seqs"],
    positions: Int32[Array, "seqs"],
) -> Float[Array, "seqs vocab"]:
    """Penalties, logit bias and min_tokens."""
    penalised = jax.lax.cond(
        jnp.any(_is_penalised(options)),
        lambda: _penalise(logits, options, TokenCounts(*(table[slots] for table in counts))),
        lambda: logits,
    )
    rows, vocab = jnp.arange(logits.shape[0])[:, None], logits.shape[1]
    biased = jax.lax.cond(
        jnp.any(_is_biased(options)),
        lambda: penalised.at[rows, own_places(options.bias_ids, vocab)].add(options.bias_values, mode="drop"),
        lambda: penalised,
    )
    too_early = positions < options.earliest_end
    return jax.lax.cond(
        jnp.any(too_early),
        lambda: biased.at[rows, jnp.where(too_early[:, None], own_places(options.end_ids, vocab), vocab)].set(
            _NEVER, mode="drop"
        ),
        lambda: biased,
    )


def _penalise(
    logits: Float[Array, "seqs vocab"], options: SamplingOptions, counts: TokenCounts
) -> Float[Array, "seqs vocab"]:
    """`counts` has the sequences' rows only."""
    repetition = options.repetition_penalty[:, None]
    seen = counts.in_prompt | (counts.in_output > 0)
    repeated = jnp.where(logits > 0, logits / repetition, logits * repetition)
    penalised = jnp.where(seen, repeated, logits)
    in_output = counts.in_output.astype(jnp.float32)
    penalised -= options.presence_penalty[:, None] * (in_output > 0)
    return penalised - options.frequency_penalty[:, None] * in_output


def _noisy(
    logits: Float[Array, "seqs vocab"], options: SamplingOptions, positions: Int32[Array, "seqs"]
) -> Float[Array, "seqs vocab"]:
    """The Gumbel-max trick: argmax(logits / temperature + noise) follows softmax(logits / temperature)."""
    scaled = logits / jnp.where(options.temperature > 0, options.temperature, 1)[:, None]
    filtered = jax.lax.cond(
        jnp.any((options.top_k > 0) | (options.top_p < 1) | (options.min_p > 0)),
        lambda: own_part(_filter(gather_columns(scaled), options), axis=1),
        lambda: scaled,
    )
    return filtered + _gumbel(options.key, positions, logits.shape[1])


def _gumbel(key: UInt32[Array, "seqs 2"], positions: Int32[Array, "seqs"], vocab: int) -> Float[Array, "seqs vocab"]:
    """Noise that depends on a row's key and position and on the token id alone."""
    shape = positions.shape[0], vocab
    counter = positions.astype(jnp.uint32)[:, None], own_ids(vocab).astype(jnp.uint32)
    bits, _ = threefry2x32(
        (jnp.broadcast_to(key[:, :1], shape), jnp.broadcast_to(key[:, 1:], shape)),
        (jnp.broadcast_to(counter[0], shape), jnp.broadcast_to(counter[1], shape)),
    )
    # The middle of 2**23 equal parts of (0, 1): never 0 or 1, whose logarithms are not finite.
    uniform = ((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-23
    return -jnp.log(-jnp.log(uniform))


def _filter(scaled: Float[Array, "seqs vocab"], options: SamplingOptions) -> Float[Array, "seqs vocab"]:
    """Make tokens outside top-k, top-p or min-p impossible, in this order; ties with the last kept token stay."""
    likeliest = jnp.max(scaled, axis=-1, keepdims=True)
    order = _order_bits(scaled)
    vocab = scaled.shape[1]
    k = jnp.where(options.top_k > 0, jnp.minimum(options.top_k, vocab), vocab)[:, None]
    in_top_k = order >= _largest_threshold(lambda t: jnp.sum(order >= t, axis=-1, keepdims=True) >= k, k)

    weights = jnp.where(in_top_k, jnp.exp(scaled - likeliest), 0)
    enough = options.top_p[:, None] * jnp.sum(weights, axis=-1, keepdims=True)
    top_p_start = _largest_threshold(
        lambda t: jnp.sum(jnp.where(order >= t, weights, 0), axis=-1, keepdims=True) >= enough, k
    )
    # Rounding may leave the whole sum below top_p = 1: it then keeps everything.
    in_top_p = (order >= top_p_start) | (options.top_p[:, None] >= 1)

    likely = weights >= options.min_p[:, None]
    return jnp.where(in_top_k & in_top_p & likely, scaled, _NEVER)


def _order_bits(values: Float[Array, "seqs vocab"]) -> Int32[Array, "seqs vocab"]:
    """Integers in the same order as the floats, so that a bisection over them ends exactly, in 32 rounds."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)


def _largest_threshold(
    holds: Callable[[Int32[Array, "seqs 1"]], Bool[Array, "seqs 1"]], like: Int[Array, "seqs 1"]
) -> Int32[Array, "seqs 1"]:
    """The largest threshold for which `holds`, which is true up to some threshold and false above it."""
    info = np.iinfo(np.int32)
    low = jnp.full_like(like, info.min, dtype=jnp.int32)
    high = jnp.full_like(like, info.max, dtype=jnp.int32)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        # The upper middle of low and high, without overflow.
        middle = (low | high) - ((low ^ high) >> 1)
        keeps = holds(middle)
        return jnp.where(keeps, middle, low), jnp.where(keeps, high, middle - 1)

    return jax.lax.fori_loop(0, 32, halve, (low, high))[0]


def _report_logprobs(
    logits: Float[Array, "seqs vocab"], tokens: Int32[Array, "seqs"], wants: Bool[Array, "seqs"]
) -> tuple[Float[Array, "seqs"], Int32[Array, "seqs top"], Float[Array, "seqs top"]]:
    seqs, vocab = logits.shape
    top = min(MAX_LOGPROBS, vocab * num_devices())

    def report() -> tuple[Array, Array, Array]:
        logprobs = jax.nn.log_softmax(gather_columns(logits), axis=-1)
        chosen = jnp.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]
        top_logprobs, top_ids = jax.lax.top_k(logprobs, top)
        return chosen, top_ids, top_logprobs

    def nothing() -> tuple[Array, Array, Array]:
        return jnp.zeros(seqs), jnp.zeros((seqs, top), jnp.int32), jnp.zeros((seqs, top))

    return jax.lax.cond(jnp.any(wants), report, nothing)
