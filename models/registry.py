"""Which architectures there are, by the names that Hugging Face's config.json gives them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from flax import nnx
from jax.typing import DTypeLike

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.decoder import Decoder
from muxjax.models.errors import ConfigError
from muxjax.models.weights import Slots


class Architecture(ABC):
    """How one family of models is configured, built, and found in a checkpoint.

    To add one, subclass this and decorate it with `register_architecture`: nothing else has to change.
    """

    @abstractmethod
    def read_config(self, fields: ConfigFields) -> DecoderConfig:
        """The configuration that config.json describes; ConfigError names the field that asks for too much."""

    @abstractmethod
    def write_config(self, config: DecoderConfig) -> dict[str, Any]:
        """The fields of config.json that read_config turns back into `config`."""

    @abstractmethod
    def tensor_slots(self, config: DecoderConfig) -> Slots:
        """For every tensor of a Hugging Face checkpoint, where it goes in the parameters of `build`."""

    def canonical_name(self, tensor: str) -> str:
        """The name in tensor_slots of a tensor that some checkpoints call otherwise."""
        return tensor

    def ignores(self, tensor: str, config: DecoderConfig) -> bool:
        """Whether a tensor without a slot may be left out; any other such tensor is an error."""
        return False

    def build(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> Decoder:
        """The module with random weights."""
        return Decoder(config, dtype=dtype, rngs=rngs)


_architectures: dict[str, Architecture] = {}


def register_architecture[Class: type[Architecture]](*names: str) -> Callable[[Class], Class]:
    """Class decorator: use this architecture for models whose config.json lists one of `names`."""

    def register(cls: Class) -> Class:
        _architectures.update(dict.fromkeys(names, cls()))
        return cls

    return register


def find_architecture(name: str) -> Architecture:
    """The architecture registered under `name`.

    Raises:
        ConfigError: there is none; the message lists those that there are.
    """
    if name not in _architectures:
        known = ", ".join(sorted(_architectures))
        raise ConfigError(f"architecture {name!r} is not known to muxjax (known: {known})")
    return _architectures[name]
