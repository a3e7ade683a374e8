"""The file of API keys."""

import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from muxjax.config.fields import Name
from muxjax.config.load import checked, read_source
from muxjax.config.problems import ConfigurationError, Problem
from muxjax.config.schema import Section
from muxjax.serving.errors import nearest
from muxjax.serving.frontends.access import AccessControl, Caller, digest
from muxjax.serving.frontends.rate_limit import RateLimits

_KEY = re.compile(r"[!-~]{16,256}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


def _parse_key(value: object) -> bytes:
    """The digest of a key, which no message may quote."""
    if isinstance(value, str) and (hashed := _HASH.fullmatch(value)):
        return bytes.fromhex(hashed[1])
    if not isinstance(value, str) or not _KEY.fullmatch(value) or value.startswith("sha256:"):
        raise ValueError(
            "must be text of 16 to 256 ASCII characters without spaces, or sha256: and the 64 hexadecimal digits of "
            'its hash; `python -c "import secrets; print(secrets.token_urlsafe(32))"` makes one'
        )
    return digest(value)


class ApiKey(Section):
    """One key and what it is for. `name: KEY` is short for `name: {key: KEY}`."""

    key: Annotated[bytes, BeforeValidator(_parse_key)] = Field(repr=False)
    models: list[str] | None = None
    requests_per_minute: float | None = Field(default=None, gt=0, le=1e9)
    tokens_per_minute: float | None = Field(default=None, gt=0, le=1e12)

    @model_validator(mode="before")
    @classmethod
    def _key_alone(cls, data: object) -> object:
        return data if isinstance(data, dict) else {"key": data}


class ApiKeys(Section):
    """The whole file."""

    keys: dict[Name, ApiKey] = Field(min_length=1)

    @model_validator(mode="after")
    def _all_differ(self) -> Self:
        if len({key.key for key in self.keys.values()}) < len(self.keys):
            raise ValueError("two names have the same key: give each one of its own")
        return self


def load_api_keys(path: Path, models: Collection[str]) -> AccessControl:
    """The callers that a file of keys lets in; keys are hashed here and not kept.

    Args:
        path: the file.
        models: the LLMs that are served, the only ones that a key can be for.

    Raises:
        ConfigurationError: with everything that is wrong, and no key in it.
    """
    source = read_source(path)
    keys = checked(source, ApiKeys, {}).keys
    unknown = [
        Problem(
            ("keys", name, "models", place),
            f"{model!r} is none of the models{nearest(model, models)}",
            source.line(("keys", name, "models", place)),
        )
        for name, key in keys.items()
        for place, model in enumerate(key.models or ())
        if model not in models
    ]
    if unknown:
        raise ConfigurationError(source.name, unknown)
    return AccessControl([(key.key, _caller(name, key)) for name, key in keys.items()])


def is_readable_by_others(path: Path) -> bool:
    """Whether users other than the file's owner may read it."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _caller(name: str, key: ApiKey) -> Caller:
    models = None if key.models is None else frozenset(key.models)
    return Caller(name, models, RateLimits(key.requests_per_minute, key.tokens_per_minute))
