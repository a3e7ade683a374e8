"""From a YAML file to a checked configuration, or to all that is wrong with it."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from muxjax.config import problems
from muxjax.config.problems import ConfigurationError, Problem
from muxjax.config.schema import Config
from muxjax.config.yaml_source import YamlSource
from muxjax.serving.errors import nearest

_PLACEMENT_KEYS = ("placement:", "units:")


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where it came from.

    Attributes:
        config: the values.
        source: the file's text, for pointing at its lines.
    """

    config: Config
    source: YamlSource

    def error(self, complaints: Sequence[str]) -> ConfigurationError:
        """Complaints such as "llms.code.max_context: is too large", found later, with their lines."""
        found = []
        for complaint in complaints:
            field, colon, message = complaint.partition(": ")
            path = self.source.path(field) if colon else ()
            found.append(Problem(path, message if colon else complaint, self.source.line(path)))
        return ConfigurationError(self.source.name, found)


def load_config(path: Path | None) -> LoadedConfig:
    """The configuration in a file; without a file, the defaults.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    if path is None:
        return LoadedConfig(Config(), YamlSource("", "the built-in configuration"))
    source = read_source(path)
    return LoadedConfig(checked(source, Config, {"folder": path.parent}), source)


def config_of(sections: Mapping[str, object]) -> LoadedConfig:
    """The configuration with these sections, as a Python program gives them. Raises ConfigurationError."""
    source = YamlSource("", "the configuration")
    return LoadedConfig(_checked(source, sections, Config, {}), source)


def read_source(path: Path) -> YamlSource:
    """A file's YAML. Raises ConfigurationError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(str(path), [Problem((), f"cannot be read: {reason}", None)]) from error
    return YamlSource(text, str(path))


def checked[S: BaseModel](source: YamlSource, schema: type[S], context: Mapping[str, Path]) -> S:
    """What a file says, in the form of its schema. Raises ConfigurationError with everything that is wrong."""
    return _checked(source, source.data, schema, context)


def _checked[S: BaseModel](source: YamlSource, data: object, schema: type[S], context: Mapping[str, Path]) -> S:
    found = source.problems
    try:
        values = schema.model_validate(data, context=dict(context))
    except ValidationError as error:
        found = found + [_problem(details, source, schema) for details in error.errors(include_url=False)]
    if found:
        raise ConfigurationError(source.name, found)
    return values


def _problem(details: ErrorDetails, source: YamlSource, schema: type[BaseModel]) -> Problem:
    path = tuple(step for step in details["loc"] if step != "[key]")
    return Problem(path, _message(details, path, schema), source.line(path))


def _message(details: ErrorDetails, path: problems.Path, schema: type[BaseModel]) -> str:
    """Pydantic's words, made to say what to do."""
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            known = _known_keys(path[:-1], schema)
            return f"is no key of this section{nearest(str(path[-1]), known)}; its keys are {', '.join(known)}"
        case "missing":
            return "is missing: add it"
        case "value_error":
            return str(context["error"])
        case "model_type" | "dict_type":
            return f"must be a section of keys and values, not {_shown(details['input'])}"
        case "too_short":
            return "is empty: name at least one, or leave the section out"
        case "string_pattern_mismatch":
            return "is no name: use letters, digits, '.', '_', '/' and '-', beginning with a letter or digit"
    hint = ": put it in quotes" if details["type"] == "string_type" and "[key]" in details["loc"] else ""
    return details["msg"].replace("Input should", "must") + f", not {_shown(details['input'])}{hint}"


def _known_keys(path: problems.Path, section: type[BaseModel]) -> list[str]:
    """The keys of the section at a path from the outermost one."""
    steps = iter(path)
    for step in steps:
        annotation = section.model_fields[str(step)].annotation
        if typing.get_origin(annotation) in (dict, list):
            annotation = typing.get_args(annotation)[-1]
            next(steps)
        options = typing.get_args(annotation) or (annotation,)  # an optional section is a union with None
        section = typing.cast(type[BaseModel], options[0])
    return list(section.model_fields)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_placement(path: Path | None) -> bool:
    """Whether a file is a placement and no configuration, by its sections."""
    if path is None:
        return False
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return all(any(line.startswith(key) for line in lines) for key in _PLACEMENT_KEYS)
