"""A trained decoder as a directory that `muxjax.serve` and Hugging Face's tools understand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import tokenizers
from flax import nnx

from muxjax.models.decoder import Decoder
from muxjax.models.load import LoadedModel, save_model
from muxjax.models.source import ORBAX_WEIGHTS
from muxjax.models.tokenizer import Tokenizer
from muxjax.training.recipes import Recipe
from muxjax.training.tokenizers import END, save_tokenizer


def export(directory: Path, recipe: Recipe, tokenizer: tokenizers.Tokenizer, decoder: Decoder) -> None:
    """Write config.json, the tokenizer and the weights, rounded to bfloat16."""
    save_tokenizer(tokenizer, directory, chat=recipe.chat, max_context=recipe.config.max_context)
    graph, params = nnx.split(decoder)
    rounded = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params))
    end = tokenizer.get_vocab()[END]
    save_model(directory, LoadedModel(recipe.config, rounded, Tokenizer.load(directory), (end,)))
    # Orbax notes here where it wrote, which is no one's business where the model is shipped to; it never reads it.
    (directory / ORBAX_WEIGHTS / "commit_success.txt").unlink(missing_ok=True)
