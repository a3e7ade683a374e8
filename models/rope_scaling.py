"""How rotary position embeddings reach past the context that a model was first trained on."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from muxjax.models.errors import ConfigError

Frequencies = Float[np.ndarray, " half"] | Float[Array, "tokens half"]
"""Radians per position of each rotated pair; of every token its own where they depend on its sequence's length."""


class RopeScaling(ABC):
    """One way to scale RoPE's frequencies.

    Every step rounds to float32, as where the models were trained: one unit in the last place of a frequency turns
    position 100,000 by up to 0.006 radians.
    """

    @property
    def magnitude(self) -> float:
        """What the rotated queries and keys are multiplied by."""
        return 1.0

    @property
    def length_switch(self) -> int | None:
        """Sequences longer than this are rotated in another way than shorter ones; None if length does not matter."""
        return None

    def check_pairs(self, pairs: int) -> None:  # noqa: B027  (most fit any number)
        """Raises ConfigError if it does not fit a rotation of so many pairs."""

    @abstractmethod
    def frequencies(self, theta: float, dim: int, lengths: Int[Array, " tokens"]) -> Frequencies:
        """The scaled frequencies of a rotation of `dim` elements, for tokens of sequences of these lengths."""


def plain_frequencies(theta: float, dim: int) -> Float[np.ndarray, " half"]:
    """theta^(-2i / dim) (Su et al. 2021)."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return np.float32(1) / np.power(theta, exponents, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True, slots=True)
class LinearScaling(RopeScaling):
    """Position interpolation (Chen et al. 2023): all frequencies divided by `factor`."""

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    def frequencies(self, theta: float, dim: int, lengths: Int[Array, " tokens"]) -> Frequencies:
        return plain_frequencies(theta, dim) / np.float32(self.factor)


@dataclass(frozen=True, slots=True)
class Llama3Scaling(RopeScaling):
    """How Llama 3.1 stretches RoPE.

    Frequencies whose wavelength is below original_context / high_freq_factor stay, those above
    original_context / low_freq_factor are divided by `factor`, those between are interpolated.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        _check_context(self.original_context)
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(
                "RoPE scaling needs 0 < low_freq_factor < high_freq_factor, "
                f"not {self.low_freq_factor} and {self.high_freq_factor}"
            )

    def frequencies(self, theta: float, dim: int, lengths: Int[Array, " tokens"]) -> Frequencies:
        plain = plain_frequencies(theta, dim)
        wavelengths = np.float32(2 * math.pi) / plain
        turns = np.float32(self.original_context) / wavelengths  # over the original context
        keep = (turns - np.float32(self.low_freq_factor)) / np.float32(self.high_freq_factor - self.low_freq_factor)
        keep = np.clip(keep, 0, 1)
        scaled: Float[np.ndarray, " half"] = (1 - keep) * plain / np.float32(self.factor) + keep * plain
        return scaled


@dataclass(frozen=True, slots=True)
class DynamicScaling(RopeScaling):
    """Dynamic NTK: past the original context a larger base, the larger the longer the sequence is."""

    factor: float
    original_context: int

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        _check_context(self.original_context)

    @property
    def length_switch(self) -> int | None:
        return self.original_context

    def frequencies(self, theta: float, dim: int, lengths: Int[Array, " tokens"]) -> Frequencies:
        stretch = jnp.maximum(lengths, self.original_context)[:, None] / jnp.float32(self.original_context)
        base = theta * (self.factor * stretch - (self.factor - 1)) ** (dim / (dim - 2))
        return 1 / base ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))


@dataclass(frozen=True, slots=True)
class YarnScaling(RopeScaling):
    """YaRN (Peng et al. 2023).

    Pairs that turn more than `beta_fast` times over the original context keep their frequency, those that turn less
    than `beta_slow` times are divided by `factor`, those between are interpolated.

    Attributes:
        magnitude_factor: what the rotated queries and keys are multiplied by.
        truncate: whether the bounds between the three kinds are rounded to whole pairs.
    """

    factor: float
    original_context: int
    magnitude_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        _check_context(self.original_context)

    @property
    def magnitude(self) -> float:
        return self.magnitude_factor

    def frequencies(self, theta: float, dim: int, lengths: Int[Array, " tokens"]) -> Frequencies:
        def pair_that_turns(times: float) -> float:
            return dim * math.log(self.original_context / (times * 2 * math.pi)) / (2 * math.log(theta))

        low, high = pair_that_turns(self.beta_fast), pair_that_turns(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        if low == high:
            high += 0.001  # a step instead of a ramp
        ramp = (np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
        divided = np.clip(ramp, 0, 1)
        plain = plain_frequencies(theta, dim)
        scaled: Float[np.ndarray, " half"] = plain / np.float32(self.factor) * divided + plain * (1 - divided)
        return scaled


@dataclass(frozen=True, slots=True)
class LongRopeScaling(RopeScaling):
    """LongRoPE (Ding et al. 2024): each pair divided by a factor of its own, short sequences by others than long ones.

    Attributes:
        short_factors: for sequences of up to `original_context` tokens, one for each rotated pair.
        long_factors: for longer ones.
        original_context: where the two meet.
        magnitude_factor: what the rotated queries and keys are multiplied by, whatever the length.
    """

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_context: int
    magnitude_factor: float

    def __post_init__(self) -> None:
        _check_context(self.original_context)

    @property
    def magnitude(self) -> float:
        return self.magnitude_factor

    @property
    def length_switch(self) -> int | None:
        return self.original_context

    def check_pairs(self, pairs: int) -> None:
        for name, factors in (("short_factor", self.short_factors), ("long_factor", self.long_factors)):
            if len(factors) != pairs:
                raise ConfigError(
                    f"{name} must hold a number for each of the {pairs} rotated pairs, not {len(factors)}"
                )

    def frequencies(self, theta: float, dim: int, lengths: Int[Array, " tokens"]) -> Frequencies:
        plain = plain_frequencies(theta, dim)
        short, long = (plain / np.asarray(factors, np.float32) for factors in (self.short_factors, self.long_factors))
        return jnp.where((lengths > self.original_context)[:, None], long, short)


def _check_factor(factor: float) -> None:
    if not factor >= 1:
        raise ConfigError(f"the RoPE scaling factor must be at least 1, not {factor}")


def _check_context(original_context: int) -> None:
    if original_context < 1:
        raise ConfigError(f"the RoPE scaling's original context must be positive, not {original_context}")
