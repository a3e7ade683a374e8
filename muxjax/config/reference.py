"""docs/configuration.md, made from the schema: `python -m muxjax.config.reference > docs/configuration.md`."""

import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from muxjax.config.schema import (
    LLM,
    CompileConfig,
    Config,
    DeviceConfig,
    LoggingConfig,
    PoolConfig,
    SchedulerConfig,
    ServerConfig,
    SLOConfig,
    TLSConfig,
)

_HEAD = """\
<!-- Made from muxjax/config/schema.py by `python -m muxjax.config.reference`; a test compares them. -->
# Configuration

`python -m muxjax.serve CONFIG.yaml` reads one YAML file. Everything in it can be left out; without a file, the demo
models are served. `--check` shows what a file comes to, before anything is loaded. All mistakes are reported at once,
with their lines. [examples/three_models.yaml](../examples/three_models.yaml) is a file to start from:

```yaml
{example}```
"""
_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("llms.NAME", LLM),
    ("llms.NAME.slo", SLOConfig),
    ("pool", PoolConfig),
    ("device", DeviceConfig),
    ("scheduler", SchedulerConfig),
    ("server", ServerConfig),
    ("server.tls", TLSConfig),
    ("logging", LoggingConfig),
    ("compile", CompileConfig),
)
_KEYS = ("llms", "architectures", "tensor_parallel")
_NAMES = {int: "whole number", float: "number", str: "text", Path: "path", SLOConfig: "section", TLSConfig: "section"}


def reference(example: str) -> str:
    """The page, with an example's text in it."""
    lines = [_HEAD.format(example=example)]
    lines += ["\n\n".join(f"`{name}`: {Config.model_fields[name].description}" for name in _KEYS)]
    for title, section in _SECTIONS:
        lines += ["", f"## {title}", "", inspect.getdoc(section) or "", ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += [_row(name, field) for name, field in section.model_fields.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    meaning, _, default = (field.description or "").partition(" Default: ")
    default = default.rstrip(".") or ("required" if field.is_required() else f"`{_value(field.default)}`")
    return f"| `{name}` | {_kind(field)} | {default} | {meaning} |"


def _kind(field: FieldInfo) -> str:
    """The type in words, with its bounds."""
    if field.description and " such as `" in field.description:
        return "size"
    options = [option for option in _options(field.annotation) if option is not types.NoneType]
    literals = [str(value) for option in options for value in typing.get_args(option)]
    if literals:
        return ", ".join(f"`{value}`" for value in literals)
    bounds = [_bound(constraint) for constraint in field.metadata]
    return " ".join([*(_NAMES[option] for option in options), ", ".join(filter(None, bounds))]).strip()


def _options(annotation: object) -> Iterator[typing.Any]:
    """The members of a union, of which there may be one."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        for member in typing.get_args(annotation):
            yield from _options(member)
    elif typing.get_origin(annotation) is typing.Annotated:
        yield typing.get_args(annotation)[0]
    else:
        yield annotation


def _bound(constraint: object) -> str:
    match constraint:
        case annotated_types.Gt(gt=low):
            return f"> {low}"
        case annotated_types.Ge(ge=low):
            return f"≥ {low}"
        case annotated_types.Le(le=high):
            return f"≤ {high:g}" if isinstance(high, float) else f"≤ {high}"
    return ""


def _value(value: object) -> str:
    if isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        return f"{value >> 20}MiB"
    return "none" if value is None else str(value)


if __name__ == "__main__":
    example = Path(__file__).parents[2] / "examples" / "three_models.yaml"
    print(reference(example.read_text(encoding="utf-8")), end="")
