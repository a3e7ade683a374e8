"""The kinds of values that the configuration has beside numbers and words."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("iB", 1024), ("B", 1000))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_bytes(value: object) -> object:
    """Bytes of a size such as 512MiB or 1.5GB; what is no text passes."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"must be a size such as 512MiB, 2GiB or 1.5GB, not {value!r}")
    return round(float(match[1]) * _UNITS[match[2]])


def parse_path(value: object, info: ValidationInfo) -> object:
    """A path, relative to the configuration file's folder; `~` is the home folder, `off` is none."""
    if value is False:
        return None
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a path, or off, not {value!r}")
    return resolve_path(value, info)


def parse_file(value: object, info: ValidationInfo) -> object:
    """A file that is there, relative to the configuration file's folder."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a file's path, not {value!r}")
    path = resolve_path(value, info)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def parse_source(value: object, info: ValidationInfo) -> object:
    """A model that is there: `demo:NAME`, `random:CONFIG.json` or a checkpoint's folder, made absolute."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a checkpoint's folder, demo:NAME or random:CONFIG.json, not {value!r}")
    kind, colon, rest = value.partition(":")
    if colon and kind == "demo":
        return _demo(rest)
    if colon and kind == "random":
        path = resolve_path(rest, info)
        if not path.is_file():
            raise ValueError(f"there is no file {path}: give the path of a config.json")
        return f"random:{path}"
    path = resolve_path(value, info)
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}: give a checkpoint's folder, demo:NAME or random:CONFIG.json")
    return str(path)


def _demo(name: str) -> str:
    from muxjax.models.source import demo_names  # brings JAX, which other sources do not need yet

    if name not in demo_names():
        raise ValueError(f"there is no demo model {name!r}; there are: {', '.join(demo_names())}")
    return f"demo:{name}"


def resolve_path(path: str, info: ValidationInfo) -> Path:
    """An absolute path."""
    folder = (info.context or {}).get("folder", Path())
    return (folder / Path(path).expanduser()).absolute()


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
OptionalPath = Annotated[Path | None, BeforeValidator(parse_path)]
File = Annotated[Path, BeforeValidator(parse_file)]
Source = Annotated[str, BeforeValidator(parse_source)]
Name = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
Module = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
