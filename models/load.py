"""Models by the name that a person gives them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.errors import ConfigError
from muxjax.models.generation_config import GENERATION_FILE, read_sampling_defaults
from muxjax.models.huggingface import read_eos_token_ids, write_config
from muxjax.models.orbax import restore_weights, save_weights
from muxjax.models.quantization import Int8Weights, quantize
from muxjax.models.random import random_weights
from muxjax.models.sharding import Cut, check_degree
from muxjax.models.source import ORBAX_WEIGHTS, FoundModel, find_model
from muxjax.models.spread import Spread
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
        eos_token_ids: the tokens that end a text, by the model's configuration and its tokenizer's; may be none.
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
    mesh: Mesh | None = None,
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
        mesh: instead of `sharding`, the devices that the model is spread over for tensor parallelism (`make_mesh`):
            each gets its part of every parameter, as `models/sharding.py` says, layers being one by one.

    Raises:
        ModelError: there is no such model, or its files are damaged or do not fit together.
    """
    found = find_model(source)
    skeleton = found.skeleton(dtype, unroll=unroll or quantization is not None or mesh is not None)
    fit = _fit(skeleton, quantization)
    if mesh is not None and mesh.size == 1:
        skeleton = skeleton.with_sharding(lambda name, shape: NamedSharding(mesh, PartitionSpec()))
    elif mesh is not None:
        _check_spread(found, skeleton, mesh.size)
        spread = Spread(mesh, found.config.num_kv_heads)
        skeleton, fit = _spread(skeleton, quantization, spread)
    elif sharding is not None:
        skeleton = skeleton.with_sharding(sharding)
    tokenizer = Tokenizer.load(found.directory)
    generation_path = found.directory / GENERATION_FILE
    paths = [generation_path, found.config_path] if found.has_weights else [found.config_path]
    eos_token_ids = read_eos_token_ids(paths, found.config.vocab_size)
    own = None if tokenizer is None else tokenizer.eos_token_id
    if own is not None and own < found.config.vocab_size:  # chats end with it, even where the configuration has others
        eos_token_ids = tuple(dict.fromkeys((*eos_token_ids, own)))
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


def check_tensor_parallel(source: str | Path, devices: int) -> None:
    """Raises ModelError if load_model could not spread the model over so many devices."""
    found = find_model(source)
    _check_spread(found, found.skeleton("float32"), devices)


def weight_bytes(
    source: str | Path, *, dtype: DTypeLike, quantization: Quantization | None = None, devices: int = 1
) -> int:
    """Memory that the weights of load_model's model take on each device, without reading them. Raises ModelError."""
    found = find_model(source)
    skeleton = found.skeleton(dtype, unroll=quantization is not None)
    if devices > 1:
        _check_spread(found, skeleton, devices)

    def bytes_of(name: str) -> int:
        cut = skeleton.cuts.get(name, Cut.WHOLE)
        parts = jax.tree.leaves(_fitted_shapes(found, skeleton, quantization, name, devices))
        return sum(
            part.size * part.dtype.itemsize // (1 if cut.spec(part.shape) == PartitionSpec() else devices)
            for part in parts
        )

    return sum(map(bytes_of, skeleton.leaves))


def load_shapes(
    source: str | Path, *, dtype: DTypeLike, mesh: Mesh, quantization: Quantization | None = None
) -> Decoder:
    """The decoder of load_model's model, its layers one by one, with shapes in place of weights.

    They say which part each device of the mesh would have. Raises ModelError.
    """
    found = find_model(source)
    skeleton = found.skeleton(dtype, unroll=True)
    if mesh.size > 1:
        _check_spread(found, skeleton, mesh.size)

    def shapes_of(name: str) -> Any:
        cut = skeleton.cuts[name] if mesh.size > 1 else Cut.WHOLE
        return jax.tree.map(
            lambda part: part.update(sharding=NamedSharding(mesh, cut.spec(part.shape))),
            _fitted_shapes(found, skeleton, quantization, name, mesh.size),
        )

    return skeleton.fill({name: shapes_of(name) for name in skeleton.leaves})


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


def _fitted_shapes(
    found: FoundModel, skeleton: Skeleton, quantization: Quantization | None, name: str, devices: int
) -> Any:
    """What becomes of a parameter that so many devices share: a shape, or several, of all their parts together."""
    fit, cut = _fit(skeleton, quantization), skeleton.cuts.get(name, Cut.WHOLE)
    return jax.eval_shape(
        lambda array: fit(name, cut.stretch(array, devices, found.config.num_kv_heads)), skeleton.leaves[name]
    )


def _fit(skeleton: Skeleton, quantization: Quantization | None) -> Fit:
    """What becomes of each parameter."""

    def keep(name: str, array: jax.Array) -> jax.Array:
        return array

    def to_int8(name: str, array: jax.Array) -> jax.Array | Int8Weights:
        axis = skeleton.in_axes.get(name)
        return array if axis is None else quantize(array, axis)

    return keep if quantization is None else to_int8


def _spread(skeleton: Skeleton, quantization: Quantization | None, spread: Spread) -> tuple[Skeleton, Fit]:
    """Where parameters are to be read to, and what becomes of each: its parts on the devices of a mesh."""

    def place(name: str, array: jax.Array) -> jax.Array | Int8Weights:
        return spread.place(array, skeleton.cuts[name], None if quantization is None else skeleton.in_axes.get(name))

    return skeleton.with_sharding(lambda name, shape: spread.read_to(skeleton.cuts[name], shape)), place


def _check_spread(found: FoundModel, skeleton: Skeleton, devices: int) -> None:
    """Raises ConfigError if the model cannot be spread over so many devices."""
    if unknown := [name for name in skeleton.leaves if name not in skeleton.cuts]:
        raise ConfigError(
            f"{found.name} does not say how devices share {', '.join(unknown)} (the `cut` of a parameter, "
            "docs/extending.md): it can be served on one device only"
        )
    try:
        check_degree(found.config, devices)
    except ConfigError as error:
        raise ConfigError(f"{found.config_path}: {error}") from None
