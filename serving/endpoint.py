"""What frontends need to know of one served LLM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from muxjax.serving.errors import InvalidRequest

MAX_CHARACTERS_PER_TOKEN = 128
"""Text longer than this many characters for each token of the context is refused before it is tokenised."""


class TextEncoder(Protocol):
    """The half of `muxjax.models.tokenizer.Tokenizer` that turns what people write into token ids."""

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """The text's token ids; user text never yields special tokens."""
        ...

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The token ids of a conversation, up to where the assistant's answer begins."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One served LLM.

    Attributes:
        name: what clients call it.
        vocab_size: token ids are below it.
        max_context: tokens of a prompt and its completion together.
        tokenizer: None for an LLM that is served by token ids only.
    """

    name: str
    vocab_size: int
    max_context: int
    tokenizer: TextEncoder | None

    def encode_text(self, text: str) -> list[int]:
        """A prompt's token ids. Raises InvalidRequest."""
        tokenizer = self._tokenizer()
        self._check_length(len(text))
        if not text:
            raise InvalidRequest("prompt", "is empty: send at least one character")
        return tokenizer.encode(text)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """A conversation's token ids; messages have a role and a content. Raises InvalidRequest."""
        tokenizer = self._tokenizer()
        if not messages:
            raise InvalidRequest("prompt", "is a chat without messages: send at least one")
        self._check_length(sum(len(text) for message in messages for text in message.values()))
        return tokenizer.apply_chat_template(messages)

    def _tokenizer(self) -> TextEncoder:
        if self.tokenizer is None:
            raise InvalidRequest("prompt", f"is text, and {self.name} has no tokenizer: send token ids")
        return self.tokenizer

    def _check_length(self, characters: int) -> None:
        most = self.max_context * MAX_CHARACTERS_PER_TOKEN
        if characters > most:
            raise InvalidRequest(
                "prompt",
                f"has {characters} characters, too many for {self.name}'s {self.max_context} tokens: shorten it",
            )
