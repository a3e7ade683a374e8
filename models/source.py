"""A model that a person names: where its files are and what it is, before any weight is read."""

from dataclasses import dataclass
from pathlib import Path

import jax
from flax import nnx
from jax.typing import DTypeLike

import muxjax.models.families  # noqa: F401  (registers them)
from muxjax.models.assemble import assemble
from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.errors import CheckpointError, ModelError
from muxjax.models.huggingface import read_config, read_tensors
from muxjax.models.quantization import Int8Weights
from muxjax.models.registry import Architecture, find_architecture
from muxjax.models.safetensors import StoredTensor
from muxjax.models.weights import Fit, Skeleton

DEMO_DIRECTORY = Path(__file__).parent / "demo"
ORBAX_WEIGHTS = "weights"


@dataclass(frozen=True)
class FoundModel:
    """A model's files.

    Attributes:
        config_path: its config.json.
        has_weights: whether there are any beside it.
        name: of its architecture, in config.json.
        config: the decoder's shape.
    """

    config_path: Path
    has_weights: bool
    name: str
    config: DecoderConfig

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self.config_path.parent

    @property
    def orbax_path(self) -> Path:
        """Where its Orbax checkpoint is, if it has one."""
        return self.directory / ORBAX_WEIGHTS

    @property
    def is_orbax(self) -> bool:
        """Whether its weights are an Orbax checkpoint; else they are safetensors."""
        return self.orbax_path.is_dir()

    @property
    def architecture(self) -> Architecture:
        """How it is built."""
        return find_architecture(self.name)

    def skeleton(self, dtype: DTypeLike, *, unroll: bool = False) -> Skeleton:
        """Its parameters' names and shapes, layers stacked or one by one."""

        def build() -> Decoder:
            decoder = self.architecture.build(self.config, dtype=dtype, rngs=nnx.Rngs(0))
            if unroll:
                decoder.unroll()
            return decoder

        return Skeleton.of(build)

    def tensors(self) -> dict[str, StoredTensor]:
        """Its safetensors, but for what may be left out. Raises CheckpointError."""
        slots = self.architecture.tensor_slots(self.config)
        tensors = {
            self.architecture.canonical_name(name): tensor for name, tensor in read_tensors(self.directory).items()
        }
        return {
            name: tensor
            for name, tensor in tensors.items()
            if name in slots or not self.architecture.ignores(name, self.config)
        }

    def assemble(self, skeleton: Skeleton, fit: Fit) -> dict[str, jax.Array | Int8Weights]:
        """The skeleton's parameters from safetensors. Raises CheckpointError."""
        slots = self.architecture.tensor_slots(self.config)
        tensors = self.tensors()
        try:
            return assemble(tensors, slots, skeleton, fit)
        except CheckpointError as error:
            raise CheckpointError(f"{self.directory}: {error}") from None


def find_model(source: str | Path) -> FoundModel:
    """The model of this name: a directory, random:CONFIG.json or demo:NAME. Raises ModelError."""
    config_path, has_weights = _locate(source)
    return FoundModel(config_path, has_weights, *read_config(config_path))


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
