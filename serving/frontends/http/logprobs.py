"""The log probabilities of a completion, in OpenAI's two forms."""

from collections.abc import Sequence

from muxjax.serving.endpoint import TextEncoder
from muxjax.serving.frontends.http.answers import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from muxjax.serving.request import Output, TokenLogprobs

_LEAST = -9999.0  # JSON has no infinity


class LogprobWriter:
    """Writes one completion's log probabilities as its outputs come; it knows what came before.

    Tokens are named by their text; those of an LLM without a tokenizer as "token_id:7".
    """

    def __init__(self, tokenizer: TextEncoder | None) -> None:
        self._tokenizer = tokenizer
        self._previous: int | None = None
        self._offset = 0

    def completion(self, output: Output) -> CompletionLogprobs | None:
        """In the form of `/v1/completions`; None if the request asked for none."""
        if not output.logprobs:
            return None
        tokens, tops, offsets = [], [], []
        for token_id, entry in zip(output.token_ids, output.logprobs, strict=True):
            name = self._name(token_id)
            top = {self._name(top_id): _finite(logprob) for top_id, logprob in _tops(entry)}
            tokens.append(name)
            tops.append({**top, name: _finite(entry.chosen)})
            offsets.append(self._offset)
            self._advance(token_id, name)
        return CompletionLogprobs(tokens, [_finite(entry.chosen) for entry in output.logprobs], tops, offsets)

    def chat(self, output: Output) -> ChatLogprobs | None:
        """In the form of `/v1/chat/completions`; None if the request asked for none."""
        if not output.logprobs:
            return None
        content = []
        for token_id, entry in zip(output.token_ids, output.logprobs, strict=True):
            top = [self._top(top_id, logprob) for top_id, logprob in _tops(entry)]
            chosen = self._top(token_id, entry.chosen)
            content.append(
                TokenLogprob(token=chosen.token, logprob=chosen.logprob, bytes=chosen.bytes, top_logprobs=top)
            )
            self._advance(token_id, chosen.token)
        return ChatLogprobs(content)

    def _top(self, token_id: int, logprob: float) -> TopLogprob:
        text = self._bytes(token_id)
        return TopLogprob(
            token=self._name(token_id), logprob=_finite(logprob), bytes=None if text is None else list(text)
        )

    def _name(self, token_id: int) -> str:
        text = self._bytes(token_id)
        return f"token_id:{token_id}" if text is None else text.decode("utf-8", "replace")

    def _bytes(self, token_id: int) -> bytes | None:
        return None if self._tokenizer is None else self._tokenizer.token_bytes(token_id, self._previous)

    def _advance(self, token_id: int, name: str) -> None:
        self._previous = token_id
        self._offset += len(name)


def _tops(entry: TokenLogprobs) -> Sequence[tuple[int, float]]:
    return list(zip(entry.top_ids, entry.top_logprobs, strict=True))


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST)
