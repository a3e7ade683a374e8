"""Chat templates."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import jinja2

from muxjax.models.errors import ModelError
from muxjax.models.special_marks import MARK, SpecialTokenMarker, unmarked, without_marks
from muxjax.models.template_sandbox import MeteredEnvironment
from muxjax.models.template_work import TooMuchWork, allowed_work, spend

MAX_TEMPLATE_CHARACTERS = 200_000  # ten times those of the longest published ones
MAX_TEMPLATE_PARTS = 20_000  # and of their syntax trees
WORK = 5_000_000  # units that a rendering may spend (see template_work)
WORK_PER_CHARACTER = 20  # and so many more for each character of the conversation
SECONDS = 2.0  # of processor time that it may take
SECONDS_PER_CHARACTER = 40e-6  # and so many more for each character, over which some templates loop,
MAX_SECONDS = 10.0  # up to these
REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
FENCES = range(0xF0000, 0xFFFFE)  # a plane of code points that no text has a use for


class ChatTemplateError(ModelError):
    """A chat template is malformed, or refuses the messages."""


class ChatTemplate:
    """A model's Jinja template, rendered in a sandbox that ends it when it works for too long.

    Args:
        source: the template.
        variables: what it may use beside the messages, such as bos_token and eos_token.
        special_tokens: those that `render_marked` tells from what messages spell.
        name: of the file that it is from, for errors.

    Attributes:
        uses_tools: whether it can tell the model about tools.

    Raises:
        ChatTemplateError: the template does not compile.
    """

    def __init__(
        self,
        source: str,
        variables: Mapping[str, str],
        *,
        special_tokens: Iterable[str] = (),
        name: str = "the chat template",
    ) -> None:
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise ChatTemplateError(
                f"the chat template has {len(source)} characters; at most {MAX_TEMPLATE_CHARACTERS} are read"
            )
        environment = MeteredEnvironment(SpecialTokenMarker(special_tokens, variables))
        environment.globals["raise_exception"] = _raise_exception
        self.source = source
        self._name = name
        self._variables = variables
        try:
            tree = environment.parse(source)
            parts = [*tree.find_all(jinja2.nodes.Node)]
            if len(parts) > MAX_TEMPLATE_PARTS:
                raise ValueError(f"it has {len(parts)} parts; at most {MAX_TEMPLATE_PARTS} are compiled")
            self._template = environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise ChatTemplateError(
                f"the chat template is malformed at line {error.lineno}: {error.message}"
            ) from error
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:  # from the compiler behind Jinja's
            raise ChatTemplateError(f"the chat template cannot be compiled: {error}") from error
        self.uses_tools = any(isinstance(part, jinja2.nodes.Name) and part.name == "tools" for part in parts)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """The conversation as one text, ready for the assistant's next words.

        Args:
            messages: each with its "role" and "content", and whatever else the template knows; "reasoning_content" is
                what the assistant thought, also under its other names, "thinking" and "reasoning".
            tools: functions that the model may call, as JSON schemas; None if there are none.
            documents: what the model may read; None if there is nothing.
            options: the template's own variables, such as enable_thinking.
            add_generation_prompt: end with what comes before an answer.
            continue_final_message: end where the last message's content ends, so that it is gone on with.

        Raises:
            ChatTemplateError: the template refuses the messages (with its own words), cannot render them, or does not
                come to an end; there is no last message to continue, or the template does not show it.
        """
        return unmarked(
            self.render_marked(
                messages,
                tools=tools,
                documents=documents,
                options=options,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
            )
        )

    def render_marked(
        self, messages: Sequence[Mapping[str, Any]], *, continue_final_message: bool = False, **given: Any
    ) -> str:
        """As `render`, with `special_marks.MARK` before each special token that the template itself wrote."""
        if any(MARK in text for text in strings([messages, given])):
            messages, given = without_marks([messages, given])
        return self._render_open(messages, **given) if continue_final_message else self._render(messages, **given)

    def _render_open(self, messages: Sequence[Mapping[str, Any]], **given: Any) -> str:
        """Up to the end of the last message's content, which is found by a character that occurs nowhere else."""
        if not messages or not isinstance(messages[-1].get("content"), str):
            raise ChatTemplateError("there is no last message with text to continue: send one")
        end = unused_character([messages, given])
        last = {**messages[-1], "content": messages[-1]["content"] + end + " "}
        text, found, rest = self._render(
            [*messages[:-1], last], **{**given, "add_generation_prompt": False}
        ).rpartition(end)
        if not found:
            raise ChatTemplateError(f"{self._name} leaves out the last message: it cannot be continued")
        return text if rest.startswith(" ") else text.rstrip()  # as the template trims its messages

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        variables = {
            "documents": None if documents is None else list(documents),
            **(options or {}),
            **self._variables,
            "messages": [_with_reasoning(message) for message in messages],
            "tools": None if tools is None else list(tools),
            "add_generation_prompt": add_generation_prompt,
        }
        characters = sum(map(len, strings([*variables.values()])))
        pieces = []
        try:
            seconds = min(SECONDS + SECONDS_PER_CHARACTER * characters, MAX_SECONDS)
            with allowed_work(WORK + WORK_PER_CHARACTER * characters, seconds):
                for piece in self._template.generate(variables):
                    spend(len(piece))
                    pieces.append(piece)
        except _Refusal as refusal:
            raise ChatTemplateError(f"{self._name} refuses these messages: {unmarked(str(refusal))}") from refusal
        except TooMuchWork:
            raise ChatTemplateError(f"{self._name} was stopped: it loops for ever, or writes without end") from None
        except Exception as error:  # a template is a program: it may fail in any way
            raise ChatTemplateError(f"{self._name} cannot render these messages: {unmarked(str(error))}") from error
        return "".join(pieces)


def _with_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the message, with what the assistant thought under both names that templates read."""
    thoughts = next((message[name] for name in REASONING_FIELDS if message.get(name) is not None), None)
    return dict(message) if thoughts is None else {"thinking": thoughts, **message, "reasoning_content": thoughts}


class _Refusal(Exception):
    """What a template says when it does not take the messages."""


def _raise_exception(message: str) -> NoReturn:
    raise _Refusal(message)


def unused_character(value: Any) -> str:
    """One that occurs in no text of the value."""
    used = set().union(*strings(value))
    unused = next((chr(code) for code in FENCES if chr(code) not in used), None)
    if unused is None:
        raise ChatTemplateError("the messages use every private character there is: leave some out")
    return unused


def strings(value: Any) -> Iterable[str]:
    """Every text in a value of JSON, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from strings(item)
