"""Models by the name that a person gives them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import nnx

import muxjax.models.llama  # noqa: F401  (registers its architectures)
from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.errors import ModelError
from muxjax.models.huggingface import read_config, read_eos_token_ids, read_tensors, write_config
from muxjax.models.orbax import restore_weights, save_weights
from muxjax.models.random import random_decoder
from muxjax.models.registry import find_architecture
from muxjax.models.weights import Skeleton, flatten_names, place_tensors

if TYPE_CHECKING:
    from muxjax.models.tokenizer import Tokenizer

DEMO_DIRECTORY = Path(__file__).parent / "demo"
ORBAX_WEIGHTS = "weights"


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
    tokenizer: "Tokenizer | None"
    eos_token_ids: tuple[int, ...]
    architecture: str = "LlamaForCausalLM"


def load_model(source: str | Path, *, dtype: jnp.dtype) -> LoadedModel:
    """Load a model's weights as `dtype`, with its tokenizer.

    Args:
        source: a directory (Hugging Face's layout, or the one that save_model writes), "random:CONFIG.json" for
            seeded random weights, or "demo:NAME" for a model that is shipped with muxjax.
        dtype: what the parameters are converted to.

    Raises:
        ModelError: there is no such model, or its files are damaged or do not fit together.
    """
    kind, colon, rest = str(source).partition(":")
    if colon and kind == "random":
        return _load_random(Path(rest).expanduser(), dtype)
    if colon and kind == "demo":
        return _load_directory(_demo_directory(rest), dtype)
    return _load_directory(Path(source).expanduser(), dtype)


def load_config(source: str | Path) -> DecoderConfig:
    """The shape of the model that load_model would load, without reading weights. Raises ModelError."""
    kind, colon, rest = str(source).partition(":")
    if colon and kind == "random":
        return read_config(Path(rest).expanduser())[1]
    directory = _demo_directory(rest) if colon and kind == "demo" else Path(source).expanduser()
    return read_config(_checked_directory(directory) / "config.json")[1]


def save_model(directory: str | Path, model: LoadedModel) -> None:
    """Write config.json, tokenizer.json and an Orbax checkpoint to a directory that load_model reads."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_config(directory, model.architecture, model.config, model.eos_token_ids)
    if model.tokenizer is not None:
        model.tokenizer.save(directory)
    save_weights(directory / ORBAX_WEIGHTS, flatten_names(nnx.to_pure_dict(nnx.state(model.decoder))))


def demo_names() -> tuple[str, ...]:
    """The models that are shipped with muxjax."""
    return tuple(sorted(path.parent.name for path in DEMO_DIRECTORY.glob("*/config.json")))


def _demo_directory(name: str) -> Path:
    if name not in demo_names():
        raise ModelError(f"demo:{name}: there is no such demo model (there are: {', '.join(demo_names())})")
    return DEMO_DIRECTORY / name


def _load_random(config_path: Path, dtype: jnp.dtype) -> LoadedModel:
    name, config = read_config(config_path)
    decoder = random_decoder(find_architecture(name), config, dtype=dtype)
    eos_token_ids = read_eos_token_ids([config_path], config.vocab_size)
    return LoadedModel(config, decoder, _load_tokenizer(config_path.parent), eos_token_ids, name)


def _load_directory(directory: Path, dtype: jnp.dtype) -> LoadedModel:
    config_path = _checked_directory(directory) / "config.json"
    name, config = read_config(config_path)
    eos_token_ids = read_eos_token_ids([directory / "generation_config.json", config_path], config.vocab_size)
    tokenizer = _load_tokenizer(directory)
    return LoadedModel(config, _load_decoder(directory, name, config, dtype), tokenizer, eos_token_ids, name)


def _checked_directory(directory: Path) -> Path:
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such directory (a model is a directory, random:CONFIG.json or demo:NAME)")
    return directory


def _load_tokenizer(directory: Path) -> "Tokenizer | None":
    from muxjax.models.tokenizer import Tokenizer

    return Tokenizer.load(directory)


def _load_decoder(directory: Path, architecture_name: str, config: DecoderConfig, dtype: jnp.dtype) -> Decoder:
    architecture = find_architecture(architecture_name)
    skeleton = Skeleton.of(lambda: architecture.build(config, dtype=dtype, rngs=nnx.Rngs(0)))
    if (directory / ORBAX_WEIGHTS).is_dir():
        return skeleton.fill(restore_weights(directory / ORBAX_WEIGHTS, skeleton.leaves))
    slots = architecture.tensor_slots(config)
    tensors = {
        name: tensor
        for name, tensor in read_tensors(directory).items()
        if name in slots or not architecture.ignores(name, config)
    }
    return skeleton.fill(place_tensors(tensors, slots, skeleton.leaves))
