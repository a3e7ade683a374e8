"""What frontends need to know of one served LLM."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from muxjax.models.chat import strings
from muxjax.models.errors import ModelError
from muxjax.serving.errors import InvalidRequest

MAX_CHARACTERS_PER_TOKEN = 128
"""Text longer than this many characters for each token of the context is refused before it is tokenised."""


class TextEncoder(Protocol):
    """What frontends use of `muxjax.models.tokenizer.Tokenizer`."""

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """The text's token ids; user text never yields special tokens."""
        ...

    @property
    def takes_tools(self) -> bool:
        """Whether `apply_chat_template` can tell the LLM about tools."""
        ...

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[int]:
        """The token ids of a conversation, up to where the assistant's answer begins."""
        ...

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids; unknown ones have none."""
        ...

    def token_bytes(self, token: int, previous: int | None, /) -> bytes:
        """What one token stands for after another one, in UTF-8; it may be a part of a character."""
        ...


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation whose next message the LLM writes, or whose last one it goes on with.

    Attributes:
        messages: each with its "role" and "content" (text), and what else the LLM's template may know.
        tools: functions that the LLM is told about, as JSON schemas; None if there are none.
        template_options: what else the LLM's template reads, such as enable_thinking.
        add_generation_prompt: end with what comes before an answer.
        continue_final_message: end where the last message ends.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False


Prompt = str | Chat | Sequence[int]
"""What a client may send: text, a conversation, or token ids."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One served LLM.

    Attributes:
        name: what clients call it.
        vocab_size: token ids are below it.
        max_context: tokens of a prompt and its completion together.
        tokenizer: None for an LLM that is served by token ids only.
        sampling: the model's own defaults of sampling parameters.
    """

    name: str
    vocab_size: int
    max_context: int
    tokenizer: TextEncoder | None
    sampling: Mapping[str, float] = field(default_factory=dict)

    def encode(self, prompt: Prompt) -> Sequence[int]:
        """The prompt's token ids; ids pass as they are. Raises InvalidRequest."""
        if not isinstance(prompt, str | Chat):
            return prompt
        if self.tokenizer is None:
            raise InvalidRequest("prompt", f"is text, and {self.name} has no tokenizer: send token ids")
        self._check_length(prompt)
        if not isinstance(prompt, str) and prompt.tools and not self.tokenizer.takes_tools:
            raise InvalidRequest(
                "tools",
                f'are nothing that {self.name}\'s chat template knows: leave them out, or send tool_choice: "none"',
            )
        try:
            if isinstance(prompt, str):
                return self.tokenizer.encode(prompt)
            return self.tokenizer.apply_chat_template(
                prompt.messages,
                tools=prompt.tools,
                options=prompt.template_options,
                add_generation_prompt=prompt.add_generation_prompt,
                continue_final_message=prompt.continue_final_message,
            )
        except ModelError as error:
            raise InvalidRequest("prompt", f"is not what {self.name} takes: {error}") from error

    def _check_length(self, prompt: str | Chat) -> None:
        length = characters(prompt)
        if length == 0:
            raise InvalidRequest("prompt", "is empty: send some text")
        if length > self.max_context * MAX_CHARACTERS_PER_TOKEN:
            raise InvalidRequest(
                "prompt", f"has {length} characters; {self.name}'s context holds {self.max_context} tokens: shorten it"
            )


def characters(prompt: str | Chat) -> int:
    """Characters of the text, or of all that a conversation holds but its roles."""
    if isinstance(prompt, str):
        return len(prompt)
    messages = [[value for key, value in message.items() if key != "role"] for message in prompt.messages]
    return sum(map(len, strings([messages, prompt.tools, prompt.template_options])))
