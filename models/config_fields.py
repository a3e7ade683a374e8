"""Typed reading of a model's config.json, with errors that name the field."""

from collections.abc import Collection, Mapping
from typing import Any

from muxjax.models.errors import ConfigError

_MOST = 1e30  # products of two are finite


class ConfigFields:
    """The fields of one JSON object; null counts as absent, unless a field is asked for by an `optional_` reader.

    Every reader raises ConfigError when the field has the wrong type, or is absent and has no default.
    """

    def __init__(self, values: Mapping[str, Any], *, section: str = "") -> None:
        self._values = values
        self._section = section

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def with_defaults(self, **defaults: Any) -> "ConfigFields":
        """The same fields, and these where the object does not have them at all: a null stays a null."""
        return ConfigFields({**defaults, **self._values}, section=self._section)

    def replaced(self, **values: Any) -> "ConfigFields":
        """The same fields, but for these."""
        return ConfigFields({**self._values, **values}, section=self._section)

    def name(self, field: str) -> str:
        """The field's name as an error should give it, section included."""
        return f"{self._section}{field}"

    def integer(self, name: str, default: int | None = None, *, most: int = 2**31 - 1) -> int:
        """A positive whole number, `most` at most."""
        value = self._get(name, default)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{self.name(name)} must be a positive whole number, not {_shown(value)}")
        if value > most:
            raise ConfigError(f"{self.name(name)} must be at most {most}, not {_shown(value)}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above zero, far below the largest floating-point number."""
        value = self._get(name, default)
        if not _is_number(value):
            raise ConfigError(f"{self.name(name)} must be a positive number, not {_shown(value)}")
        return float(value)

    def whole(self, name: str) -> int:
        """A whole number from 0."""
        value = self._get(name, None)
        if type(value) is not int or value < 0:
            raise ConfigError(f"{self.name(name)} must be a whole number from 0, not {_shown(value)}")
        return value

    def optional_integer(self, name: str) -> int | None:
        """A positive whole number; None if it is null or absent."""
        return self.integer(name) if name in self else None

    def optional_number(self, name: str) -> float | None:
        """Such a number; None if it is null or absent."""
        return self.number(name) if name in self else None

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of such numbers."""
        value = self._get(name, None)
        if not isinstance(value, list) or not all(map(_is_number, value)):
            raise ConfigError(f"{self.name(name)} must be a list of positive numbers, not {_shown(value)}")
        return tuple(float(number) for number in value)

    def indices(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers from 0; empty if the field is absent."""
        value = self._get(name, [])
        if not isinstance(value, list) or any(type(index) is not int or index < 0 for index in value):
            raise ConfigError(f"{self.name(name)} must be a list of whole numbers, not {_shown(value)}")
        return tuple(value)

    def choices(self, name: str, supported: Collection[str]) -> tuple[str, ...] | None:
        """A list of names out of those that muxjax supports; None if the field is absent."""
        if name not in self:
            return None
        value = self._values[name]
        if not isinstance(value, list):
            raise ConfigError(f"{self.name(name)} must be a list, not {_shown(value)}")
        if unknown := sorted({_shown(choice) for choice in value if choice not in supported}):
            raise ConfigError(
                f"{self.name(name)} holds {', '.join(unknown)}, which is not supported "
                f"(supported: {', '.join(map(repr, supported))})"
            )
        return tuple(value)

    def refuse(self, name: str, *harmless: Any) -> None:
        """Raise ConfigError, naming a field of which only some values, or its absence, change nothing."""
        if name in self and self._values[name] not in harmless:
            raise ConfigError(f"{self.name(name)} is {_shown(self._values[name])}, which is not supported")

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if type(value) is not bool:
            raise ConfigError(f"{self.name(name)} must be true or false, not {_shown(value)}")
        return value

    def section(self, name: str) -> "ConfigFields | None":
        """The object in a field; None if it is absent."""
        if name not in self:
            return None
        value = self._values[name]
        if not isinstance(value, dict):
            raise ConfigError(f"{self.name(name)} must be an object, not {_shown(value)}")
        return ConfigFields(value, section=f"{self.name(name)}.")

    def token_ids(self, name: str) -> tuple[int, ...]:
        """One token id or a list of them; none if the field is absent."""
        if name not in self:
            return ()
        value = self._values[name]
        token_ids = value if isinstance(value, list) else [value]
        if not all(type(token_id) is int and token_id >= 0 for token_id in token_ids):
            raise ConfigError(f"{self.name(name)} must be a token id or a list of token ids, not {_shown(value)}")
        return tuple(token_ids)

    def only(self, name: str, supported: Collection[Any], *, default: Any) -> Any:
        """A field of which muxjax supports some values.

        Raises:
            ConfigError: any other value.
        """
        value = self._get(name, default)
        if value not in supported:
            choices = ", ".join(repr(choice) for choice in supported)
            raise ConfigError(f"{self.name(name)} is {_shown(value)}, which is not supported (supported: {choices})")
        return value

    def _get(self, name: str, default: Any) -> Any:
        value = self._values.get(name)
        if value is not None:
            return value
        if default is None:
            raise ConfigError(f"{self.name(name)} is missing")
        return default


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < _MOST


def _shown(value: Any) -> str:
    return f"{value!r:.100}"
