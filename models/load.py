"""Models by the name that a person gives them."""

from dataclasses import dataclass
from pathlib import Path

from flax import nnx
from jax.typing import DTypeLike

import muxjax.models.families  # noqa: F401  (registers them)
from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.errors import CheckpointError, ModelError
from muxjax.models.huggingface import read_config, read_eos_token_ids, read_tensors, write_config
from muxjax.models.orbax import restore_weights, save_weights
from muxjax.models.random import random_decoder
from muxjax.models.registry import Architecture, find_architecture
from muxjax.models.tokenizer import Tokenizer
from muxjax.models.weights import Skeleton, flatten_names, place_tensors

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
    tokenizer: Tokenizer | None
    eos_token_ids: tuple[int, ...]
    architecture: str = "LlamaForCausalLM"


def load_model(source: str | Path, *, dtype: DTypeLike) -> LoadedModel:
    """Load a model's weights as `dtype`, with its tokenizer.

    Args:
        source: a directory (Hugging Face's layout, or the one that save_model writes), "random:CONFIG.json" for
            seeded random weights, or "demo:NAME" for a model that is shipped with muxjax.
        dtype: what the parameters are converted to.

    Raises:
        ModelError: there is no such model, or its files are damaged or do not fit together.
    """
    config_path, has_weights = _locate(source)
    directory = config_path.parent
    name, config = read_config(config_path)
    architecture = find_architecture(name)
    tokenizer = Tokenizer.load(directory)
    if not has_weights:
        eos_token_ids = read_eos_token_ids([config_path], config.vocab_size)
        decoder = random_decoder(architecture, config, dtype=dtype)
    else:
        eos_token_ids = read_eos_token_ids([directory / "generation_config.json", config_path], config.vocab_size)
        decoder = _load_decoder(directory, architecture, config, dtype)
    return LoadedModel(config, decoder, tokenizer, eos_token_ids, name)


def load_config(source: str | Path) -> DecoderConfig:
    """The shape of the model that load_model would load, without reading weights. Raises ModelError."""
    return read_config(_locate(source)[0])[1]


def save_model(directory: str | Path, model: LoadedModel) -> None:
    """Write config.json, the tokenizer's files and an Orbax checkpoint to a directory that load_model reads."""
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


def _load_decoder(directory: Path, architecture: Architecture, config: DecoderConfig, dtype: DTypeLike) -> Decoder:
    skeleton = Skeleton.of(lambda: architecture.build(config, dtype=dtype, rngs=nnx.Rngs(0)))
    if (directory / ORBAX_WEIGHTS).is_dir():
        return skeleton.fill(restore_weights(directory / ORBAX_WEIGHTS, skeleton.leaves))
    slots = architecture.tensor_slots(config)
    found = {architecture.canonical_name(name): tensor for name, tensor in read_tensors(directory).items()}
    tensors = {
        name: tensor for name, tensor in found.items() if name in slots or not architecture.ignores(name, config)
    }
    try:
        return skeleton.fill(place_tensors(tensors, slots, skeleton.leaves))
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: {error}") from None
