"""Chat templates, and what keeps the words of a message from being read as the template's."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from muxjax.models.errors import ModelError

FENCES = range(0xF0000, 0xFFFFE)  # a plane of code points that no text has a use for


class ChatTemplateError(ModelError):
    """A chat template is malformed, or refuses the messages."""


class ChatTemplate:
    """A model's Jinja template, rendered in a sandbox.

    The sandbox keeps a template from the process, but bounds neither time nor memory: templates come with a model,
    never with a request.

    Args:
        source: the template.
        variables: what it may use beside the messages, such as bos_token and eos_token.

    Raises:
        ChatTemplateError: the template does not compile.
    """

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now, **variables}
        self.source = source
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ChatTemplateError(
                f"the chat template is malformed at line {error.lineno}: {error.message}"
            ) from error

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """The conversation as one text, ready for the assistant's next words.

        Raises:
            ChatTemplateError: the template refuses the messages (with its own words) or cannot render them.
        """
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
            )
        except ChatTemplateError:
            raise
        except Exception as error:  # a template is a program: it may fail in any way
            raise ChatTemplateError(f"the chat template cannot render these messages: {error}") from error


def _raise_exception(message: str) -> NoReturn:
    raise ChatTemplateError(f"the chat template refuses these messages: {message}")


def _strftime_now(format: str) -> str:  # noqa: A002  (templates may name the argument)
    return datetime.now().strftime(format)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own tojson escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def special_token_pattern(special_tokens: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the special tokens, the longest one where several start; nothing if there are none."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def fence_special_tokens(messages: Any, pattern: re.Pattern[str]) -> tuple[Any, str]:
    """Make special tokens inside messages unreadable as such.

    Returns:
        The messages with one character put after every character of the special tokens that they spell, and that
        one, which occurs nowhere else in them; the very messages and "" if they spell none.
    """
    texts = list(_strings(messages))
    if not any(pattern.search(text) for text in texts):
        return messages, ""
    used = set().union(*texts)
    fence = next((chr(code) for code in FENCES if chr(code) not in used), None)
    if fence is None:
        raise ChatTemplateError("the messages use every private character there is: leave some out")

    def fenced(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(lambda match: "".join(character + fence for character in match[0]), value)
        if isinstance(value, Mapping):
            return {key: fenced(item) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [fenced(item) for item in value]
        return value

    return fenced(messages), fence


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings(item)
