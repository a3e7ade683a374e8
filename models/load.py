"""Models by the name that a person gives them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jax
from flax import nnx
from jax.typing import DTypeLike

from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.generation_config import GENERATION_FILE, read_sampling_defaults
from muxjax.models.huggingface import read_eos_token_ids, write_config
from muxjax.models.orbax import restore_weights, save_weights
from muxjax.models.quantization import Int8Weights, quantize
from muxjax.models.random import random_weights
from muxjax.models.source import ORBAX_WEIGHTS, find_model
from muxjax.models.tokenizer import Tokenizer
from muxjax.models.weights import Fit, ShardingOf, Skeleton, flatten_names

Quantization = Literal["int8"]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to serve or to train.

    Attributes:
        config: the decoder's shape.
        decoder: the module, with its weights.
        tokenizer: None if the model came without one; it is then used by token ids.
        eos_token_ids: the tokens that end a text; may be none.
        architecture: its name in config.json.
        sampling: its own defaults, such as a temperature, for requests that leave them open.
    """

    config: DecoderConfig
    decoder: Decoder
    tokenizer: Tokenizer | None
    eos_token_ids: tuple[int, ...]
    architecture: str = "LlamaForCausalLM"
    sampling: Mapping[str, float] = field(default_factory=dict)


def load_model(
    source: str | Path,
    *,
    dtype: DTypeLike,
    unroll: bool = False,
    quantization: Quantization | None = None,
    sharding: ShardingOf | None = None,
) -> LoadedModel:
    """Load a model's weights as `dtype`, with its tokenizer.

    Args:
        source: a directory (Hugging Face's layout, or the one that save_model writes), "random:CONFIG.json" for
            seeded random weights, or "demo:NAME" for a model that is shipped with muxjax.
        dtype: what the parameters are converted to.
        unroll: have the layers one by one, as serving wants them, and not stacked, as training does.
        quantization: "int8" keeps the weights of products in eight bits, with a scale of each output channel; layers
            are then one by one.
        sharding: sharding(name, shape) says where a parameter goes, such as ("layers.0.mlp.down", (2048, 768)), the
            layers stacked unless `unroll`. Each device gets its part, and the host never holds a whole. By default,
            everything goes to the first device.

    Raises:
        ModelError: there is no such model, or its files are damaged or do not fit together.
    """
    found = find_model(source)
    skeleton = found.skeleton(dtype, unroll=unroll or quantization is not None)
    if sharding is not None:
        skeleton = skeleton.with_sharding(sharding)
    fit = _fit(skeleton, quantization)
    tokenizer = Tokenizer.load(found.directory)
    generation_path = found.directory / GENERATION_FILE
    paths = [generation_path, found.config_path] if found.has_weights else [found.config_path]
    eos_token_ids = read_eos_token_ids(paths, found.config.vocab_size)
    sampling = read_sampling_defaults(generation_path) if found.has_weights else {}
    if not found.has_weights:
        arrays = random_weights(found.architecture, found.config, skeleton, fit)
    elif found.is_orbax:
        arrays = restore_weights(found.orbax_path, skeleton, fit)
    else:
        arrays = found.assemble(skeleton, fit)
    decoder = skeleton.fill(arrays)
    return LoadedModel(found.config, decoder, tokenizer, eos_token_ids, found.name, sampling)


def load_config(source: str | Path) -> DecoderConfig:
    """The shape of the model that load_model would load, without reading weights. Raises ModelError."""
    return find_model(source).config


def weight_bytes(source: str | Path, *, dtype: DTypeLike, quantization: Quantization | None = None) -> int:
    """Memory that the weights of load_model's model take, without reading them. Raises ModelError."""
    skeleton = find_model(source).skeleton(dtype, unroll=quantization is not None)
    fit = _fit(skeleton, quantization)
    leaves = [jax.eval_shape(functools.partial(fit, name), leaf) for name, leaf in skeleton.leaves.items()]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(leaves))


def save_model(directory: str | Path, model: LoadedModel) -> None:
    """Write config.json, the tokenizer's files and an Orbax checkpoint to a directory that load_model reads.

    Raises:
        ValueError: the model's layers are one by one; checkpoints have them stacked.
    """
    if model.config.is_stacked and isinstance(model.decoder.layers, nnx.List):
        raise ValueError("load the model with its layers stacked to save it")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_config(directory, model.architecture, model.config, model.eos_token_ids)
    if model.tokenizer is not None:
        model.tokenizer.save(directory)
    save_weights(directory / ORBAX_WEIGHTS, flatten_names(nnx.to_pure_dict(nnx.state(model.decoder))))


def _fit(skeleton: Skeleton, quantization: Quantization | None) -> Fit:
    """What becomes of each parameter."""

    def keep(name: str, array: jax.Array) -> jax.Array:
        return array

    def to_int8(name: str, array: jax.Array) -> jax.Array | Int8Weights:
        axis = skeleton.in_axes.get(name)
        return array if axis is None else quantize(array, axis)

    return keep if quantization is None else to_int8
