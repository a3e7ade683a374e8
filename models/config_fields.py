"""Typed reading of a model's config.json, with errors that name the field."""

from collections.abc import Collection, Mapping
from typing import Any

from muxjax.models.errors import ConfigError


class ConfigFields:
    """The fields of one JSON object; null counts as absent, as it does for Hugging Face.

    Every reader raises ConfigError when the field has the wrong type, or is absent and has no default.
    """

    def __init__(self, values: Mapping[str, Any], *, section: str = "") -> None:
        self._values = values
        self._section = section

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def name(self, field: str) -> str:
        """The field's name as an error should give it, section included."""
        return f"{self._section}{field}"

    def integer(self, name: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self._get(name, default)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{self.name(name)} must be a positive whole number, not {value!r}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number above zero."""
        value = self._get(name, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise ConfigError(f"{self.name(name)} must be a positive number, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if type(value) is not bool:
            raise ConfigError(f"{self.name(name)} must be true or false, not {value!r}")
        return value

    def section(self, name: str) -> "ConfigFields | None":
        """The object in a field; None if it is absent."""
        if name not in self:
            return None
        value = self._values[name]
        if not isinstance(value, dict):
            raise ConfigError(f"{self.name(name)} must be an object, not {value!r}")
        return ConfigFields(value, section=f"{self.name(name)}.")

    def token_ids(self, name: str) -> tuple[int, ...]:
        """One token id or a list of them; none if the field is absent."""
        if name not in self:
            return ()
        value = self._values[name]
        token_ids = value if isinstance(value, list) else [value]
        if not all(type(token_id) is int and token_id >= 0 for token_id in token_ids):
            raise ConfigError(f"{self.name(name)} must be a token id or a list of token ids, not {value!r}")
        return tuple(token_ids)

    def only(self, name: str, supported: Collection[Any], *, default: Any) -> Any:
        """A field of which muxjax supports some values.

        Raises:
            ConfigError: any other value.
        """
        value = self._get(name, default)
        if value not in supported:
            choices = ", ".join(repr(choice) for choice in supported)
            raise ConfigError(f"{self.name(name)} is {value!r}, which is not supported (supported: {choices})")
        return value

    def _get(self, name: str, default: Any) -> Any:
        value = self._values.get(name)
        if value is not None:
            return value
        if default is None:
            raise ConfigError(f"{self.name(name)} is missing")
        return default
