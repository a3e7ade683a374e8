"""Models by the name that a person gives them."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
from flax import nnx
from jax.typing import DTypeLike

import muxjax.models.families  # noqa: F401  (registers them)
from muxjax.models.assemble import assemble
from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.errors import CheckpointError, ModelError
from muxjax.models.huggingface import read_config, read_eos_token_ids, read_tensors, write_config
from muxjax.models.orbax import restore_weights, save_weights
from muxjax.models.quantization import Int8Weights, quantize
from muxjax.models.random import random_weights
from muxjax.models.registry import Architecture, find_architecture
from muxjax.models.tokenizer import Tokenizer
from muxjax.models.weights import Fit, ShardingOf, Skeleton, flatten_names

DEMO_DIRECTORY = Path(__file__).parent / "demo"
ORBAX_WEIGHTS = "weights"
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
    """

    config: DecoderConfig
    decoder: Decoder
    tokenizer: Tokenizer | None
    eos_token_ids: tuple[int, ...]
    architecture: str = "LlamaForCausalLM"


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
    config_path, has_weights = _locate(source)
    directory = config_path.parent
    name, config = read_config(config_path)
    architecture = find_architecture(name)
    tokenizer = Tokenizer.load(directory)
    generation = [directory / "generation_config.json"] if has_weights else []
    eos_token_ids = read_eos_token_ids([*generation, config_path], config.vocab_size)
    skeleton = _skeleton(architecture, config, dtype, unroll=unroll or quantization is not None)
    if sharding is not None:
        skeleton = skeleton.with_sharding(sharding)
    fit = _fit(skeleton, quantization)
    if has_weights:
        arrays = _read_weights(directory, architecture, config, skeleton, fit)
    else:
        arrays = random_weights(architecture, config, skeleton, fit)
    return LoadedModel(config, skeleton.fill(arrays), tokenizer, eos_token_ids, name)


def load_config(source: str | Path) -> DecoderConfig:
    """The shape of the model that load_model would load, without reading weights. Raises ModelError."""
    return read_config(_locate(source)[0])[1]


def weight_bytes(source: str | Path, *, dtype: DTypeLike, quantization: Quantization | None = None) -> int:
    """Memory that the weights of load_model's model take, without reading them. Raises ModelError."""
    name, config = read_config(_locate(source)[0])
    skeleton = _skeleton(find_architecture(name), config, dtype, unroll=quantization is not None)
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


def demo_names() -> tuple[str, ...]:
    """The models that are shipped with muxjax."""
    return tuple(sorted(path.parent.name for path in DEMO_DIRECTORY.glob("*/config.json")))


def _locate(source: str | Path) -> tuple[Path, bool]:
    """Where the source's config.json is, and whether there are weights beside it."""
    kind, _, rest = str(source).partition(":")
    if kind == "random":
        return Path(rest).expanduser(), False
    if kind == "demo":
        if rest not in demo_names():
            raise ModelError(f"demo:{rest}: no such demo model (there are: {', '.join(demo_names()) or 'none'})")
        return DEMO_DIRECTORY / rest / "config.json", True
    directory = Path(source).expanduser()
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such directory (a model is a directory, random:CONFIG.json or demo:NAME)")
    return directory / "config.json", True


def _skeleton(architecture: Architecture, config: DecoderConfig, dtype: DTypeLike, *, unroll: bool) -> Skeleton:
    def build() -> Decoder:
        decoder = architecture.build(config, dtype=dtype, rngs=nnx.Rngs(0))
        if unroll:
            decoder.unroll()
        return decoder

    return Skeleton.of(build)


def _fit(skeleton: Skeleton, quantization: Quantization | None) -> Fit:
    """What becomes of each parameter."""

    def keep(name: str, array: jax.Array) -> jax.Array:
        return array

    def to_int8(name: str, array: jax.Array) -> jax.Array | Int8Weights:
        axis = skeleton.in_axes.get(name)
        return array if axis is None else quantize(array, axis)

    return keep if quantization is None else to_int8


def _read_weights(
    directory: Path, architecture: Architecture, config: DecoderConfig, skeleton: Skeleton, fit: Fit
) -> dict[str, jax.Array | Int8Weights]:
    if (directory / ORBAX_WEIGHTS).is_dir():
        return restore_weights(directory / ORBAX_WEIGHTS, skeleton, fit)
    slots = architecture.tensor_slots(config)
    found = {architecture.canonical_name(name): tensor for name, tensor in read_tensors(directory).items()}
    tensors = {
        name: tensor for name, tensor in found.items() if name in slots or not architecture.ignores(name, config)
    }
    try:
        return assemble(tensors, slots, skeleton, fit)
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: {error}") from None
