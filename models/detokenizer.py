"""Text of a token stream, character by whole character."""

import codecs
from collections.abc import Iterable, Sequence
from itertools import islice

from muxjax.models.tokenizer import Tokenizer

PROMPT_TOKENS = 8  # of the prompt's end: more than any character has bytes


class Detokenizer:
    """Turns the tokens of one completion into text as they come.

    What `push` returns is final: a character whose last bytes are still to come waits for them, and `finish` returns
    what is left of it as U+FFFD. All that was returned, joined, is the text that the output adds to the prompt's.
    Special tokens, and ids that the tokenizer does not know, have no text. Constant time a token.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._previous: int | None = None
        self._prime(prompt_token_ids)

    def push(self, token_ids: Iterable[int]) -> str:
        """The characters that these tokens complete; "" if none."""
        return self._characters.decode(b"".join(map(self._bytes, token_ids)))

    def finish(self) -> str:
        """U+FFFD if the text ended inside a character, else ""."""
        return self._characters.decode(b"", final=True)

    def _prime(self, prompt_token_ids: Sequence[int]) -> None:
        """Read the prompt's end: a completion may start inside a character, or need to know that it starts no text."""
        with_text = (token for token in reversed(prompt_token_ids) if self._tokenizer.has_text(token))
        self.push(reversed(list(islice(with_text, PROMPT_TOKENS))))

    def _bytes(self, token: int) -> bytes:
        if not self._tokenizer.has_text(token):
            return b""
        text = self._tokenizer.token_bytes(token, self._previous)
        self._previous = token
        return text
