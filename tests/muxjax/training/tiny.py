"""A recipe small enough to train inside a test."""

import numpy as np

from muxjax.models.config import DecoderConfig
from muxjax.training.recipes import Recipe
from muxjax.training.tasks import ArithmeticTask


def rng() -> np.random.Generator:
    """The same numbers every time."""
    return np.random.default_rng(0)


def recipe(steps: int = 20) -> Recipe:
    """Sums, by a decoder of one layer."""
    config = DecoderConfig(
        vocab_size=15,
        hidden_size=16,
        intermediate_size=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_context=32,
        tie_embeddings=True,
    )
    return Recipe(config=config, make_task=ArithmeticTask, rows=16, steps=steps, learning_rate=1e-2)
