"""What the device keeps of each running sequence, by slot, and the host's side of it."""

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array, Bool, Int32

from muxjax.models.collectives import own_places
from muxjax.serving.request import SamplingParams
from muxjax.serving.sampling import MAX_END_IDS, MAX_LOGIT_BIAS, Sampled, SamplingOptions, TokenCounts


class SlotState(NamedTuple):
    """Changed by every step, and so donated to it. The last slot is nobody's: padding rows use it."""

    last_tokens: Int32[Array, "slots"]
    counts: TokenCounts

    @classmethod
    def empty(cls, num_slots: int, vocab_size: int) -> "SlotState":
        """The state before any sequence ran."""
        shape = (num_slots + 1, vocab_size)
        counts = TokenCounts(jnp.zeros(shape, jnp.bool_), jnp.zeros(shape, jnp.int16))
        return cls(jnp.zeros(num_slots + 1, jnp.int32), counts)

    def record(self, slots: Int32[Array, "seqs"], sampled: Sampled) -> "SlotState":
        """The state after `sampled` became the sequences' newest tokens."""
        places = own_places(sampled.tokens, self.counts.in_output.shape[1])
        in_output = self.counts.in_output.at[slots, places].add(1)
        return SlotState(self.last_tokens.at[slots].set(sampled.tokens), TokenCounts(self.counts.in_prompt, in_output))

    def load_counts(
        self, slot: Int32[Array, ""], token_ids: Int32[Array, "tokens"], is_output: Bool[Array, "tokens"]
    ) -> "SlotState":
        """The state with one slot's counts made anew from a sequence's tokens, padded with the vocabulary's size."""
        vocab = self.counts.in_prompt.shape[1]
        places = own_places(token_ids, vocab)
        in_prompt = jnp.zeros(vocab, jnp.bool_).at[jnp.where(is_output, vocab, places)].set(True, mode="drop")
        in_output = jnp.zeros(vocab, jnp.int16).at[jnp.where(is_output, places, vocab)].add(1, mode="drop")
        counts = TokenCounts(
            self.counts.in_prompt.at[slot].set(in_prompt), self.counts.in_output.at[slot].set(in_output)
        )
        return SlotState(self.last_tokens, counts)


class SamplingTable:
    """The sampling options of the sequence in each slot, on the host and, when asked for, on the device."""

    def __init__(self, num_slots: int, vocab_size: int, where: Sharding | None = None) -> None:
        """`where` it is wanted; None is the first device."""
        self._where = where
        rows = num_slots + 1
        self._vocab_size = vocab_size
        self._columns: dict[str, np.ndarray] = {
            "temperature": np.zeros(rows, np.float32),
            "top_k": np.zeros(rows, np.int32),
            "top_p": np.ones(rows, np.float32),
            "min_p": np.zeros(rows, np.float32),
            "repetition_penalty": np.ones(rows, np.float32),
            "presence_penalty": np.zeros(rows, np.float32),
            "frequency_penalty": np.zeros(rows, np.float32),
            "key": np.zeros((rows, 2), np.uint32),
            "wants_logprobs": np.zeros(rows, np.bool_),
            "bias_ids": np.full((rows, MAX_LOGIT_BIAS), vocab_size, np.int32),
            "bias_values": np.zeros((rows, MAX_LOGIT_BIAS), np.float32),
            "end_ids": np.full((rows, MAX_END_IDS), vocab_size, np.int32),
            "earliest_end": np.zeros(rows, np.int32),
        }
        self._device: SamplingOptions | None = None

    def set(
        self, slot: int, sampling: SamplingParams, *, index: int, prompt_length: int, end_ids: tuple[int, ...]
    ) -> None:
        """Give a slot the options of completion `index` of a request."""
        row: dict[str, object] = {
            "temperature": sampling.temperature,
            "top_k": min(sampling.top_k, self._vocab_size),
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "key": np.random.SeedSequence([sampling.seed or 0, index]).generate_state(2),
            "wants_logprobs": sampling.logprobs is not None,
            "bias_ids": _padded(sampling.logit_bias.keys(), MAX_LOGIT_BIAS, self._vocab_size),
            "bias_values": _padded(sampling.logit_bias.values(), MAX_LOGIT_BIAS, 0),
            "end_ids": _padded(end_ids, MAX_END_IDS, self._vocab_size),
            "earliest_end": prompt_length + sampling.min_tokens,
        }
        for name, value in row.items():
            self._columns[name][slot] = value
        self._device = None

    @property
    def shapes(self) -> SamplingOptions:
        """Of what `on_device` gives; unlike that, for any thread, for instance one that compiles."""
        shapes: dict[str, Any] = {
            name: jax.ShapeDtypeStruct(column.shape, column.dtype, sharding=self._where)
            for name, column in self._columns.items()
        }
        return SamplingOptions(**shapes)

    def on_device(self) -> SamplingOptions:
        """The whole table, uploaded again only after a change."""
        if self._device is None:
            # A copy: on the CPU the device may read the host's memory while the next sequence changes it.
            columns = {name: jax.device_put(column.copy(), self._where) for name, column in self._columns.items()}
            self._device = SamplingOptions(**columns)
        return self._device


def _padded(values: Collection[float], size: int, filler: float) -> list[float]:
    return [*values, *[filler] * (size - len(values))]
