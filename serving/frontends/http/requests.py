"""What clients send: OpenAI's fields, and those of vLLM that its clients use. Fields that nobody knows are ignored.

Types are checked here, values by `muxjax.serving.validation`. What would change the answer and is not supported is
refused by its name, not ignored.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from muxjax.serving import validation
from muxjax.serving.endpoint import Chat, Prompt
from muxjax.serving.errors import InvalidRequest
from muxjax.serving.frontends.http.conversation import Message, Tool, conversation

MAX_PROMPTS = 64
"""Prompts of one request; each has n completions."""
DEFAULT_MAX_TOKENS = 16
"""Of a completion without `max_tokens`, as OpenAI has it; an answer in a chat may fill the context."""

_SEEDS = 1 << 64
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "n",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "ignore_eos",
)


def _bounds(low: float | None = None, high: float | None = None) -> msgspec.Meta:
    """For the description alone: values are checked by the validator."""
    bounds = {"minimum": low, "maximum": high}
    return msgspec.Meta(extra_json_schema={name: bound for name, bound in bounds.items() if bound is not None})


_TOOL_CHOICE = (
    '"auto" (as when it is left out) tells the LLM about the tools, where its chat template can; what it writes comes '
    'as text, calls too. "none" leaves them out.'
)
_TEMPLATE_OPTIONS = 'What else the LLM\'s chat template reads, such as {"enable_thinking": false}.'

type Unsupported = Annotated[Any, msgspec.Meta(description="Not supported: refused where it would matter.")]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What completions and chat completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int | None, _bounds(1)] = None
    temperature: Annotated[float | None, _bounds(0, validation.MAX_TEMPERATURE)] = None
    top_p: Annotated[float | None, _bounds(validation.MIN_TOP_P, 1)] = None
    top_k: Annotated[int | None, _bounds(-1)] = None
    min_p: Annotated[float | None, _bounds(0, 1)] = None
    repetition_penalty: Annotated[
        float | None, _bounds(validation.MIN_REPETITION_PENALTY, validation.MAX_REPETITION_PENALTY)
    ] = None
    presence_penalty: Annotated[float | None, _bounds(-validation.MAX_PENALTY, validation.MAX_PENALTY)] = None
    frequency_penalty: Annotated[float | None, _bounds(-validation.MAX_PENALTY, validation.MAX_PENALTY)] = None
    logit_bias: dict[int, float] | None = None
    n: Annotated[int | None, _bounds(1, validation.MAX_N)] = None
    seed: Annotated[int | None, _bounds(-_SEEDS // 2, validation.MAX_SEED)] = None
    min_tokens: Annotated[int | None, _bounds(0)] = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None

    def sampling(self) -> dict[str, object]:
        """The fields of `SamplingParams` that were sent, but for logprobs and max_tokens."""
        fields: dict[str, object] = {name: getattr(self, name) for name in _SAMPLING}
        if self.top_k == -1:  # vLLM's word for all
            fields["top_k"] = 0
        if self.seed is not None:
            fields["seed"] = self.seed % _SEEDS if -_SEEDS // 2 <= self.seed < 0 else self.seed
        return fields


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    """The body of `POST /v1/completions`."""

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: Annotated[int | None, _bounds(0, validation.MAX_LOGPROBS)] = None
    best_of: int | None = None
    suffix: Unsupported = None

    def sampling(self) -> dict[str, object]:
        """The fields of `SamplingParams`. Raises InvalidRequest for what is not supported."""
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise InvalidRequest("best_of", "is not supported: ask for n completions and choose among them")
        if self.suffix:
            raise InvalidRequest("suffix", "is not supported: leave it out")
        if self.echo and self.logprobs is not None:
            raise InvalidRequest("logprobs", "are given of completions only: leave out echo")
        max_tokens = DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        return {**super().sampling(), "logprobs": self.logprobs, "max_tokens": max_tokens}

    def prompts(self) -> Sequence[Prompt]:
        """The prompt or prompts: text, or token ids. Raises InvalidRequest."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if not self.prompt or any(isinstance(item, int) for item in self.prompt):
            return [list(_all_integers(self.prompt))]
        if len(self.prompt) > MAX_PROMPTS:
            raise InvalidRequest("prompt", f"has {len(self.prompt)} prompts; at most {MAX_PROMPTS} are taken")
        return [item for item in self.prompt if not isinstance(item, int)]


class ChatRequest(GenerationRequest, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message]
    max_completion_tokens: Annotated[int | None, _bounds(1)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, _bounds(0, validation.MAX_LOGPROBS)] = None
    tools: list[Tool] | None = None
    tool_choice: Annotated[Any, msgspec.Meta(description=_TOOL_CHOICE)] = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    functions: Unsupported = None
    response_format: Unsupported = None
    chat_template: Unsupported = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, msgspec.Meta(description=_TEMPLATE_OPTIONS)] = None

    def sampling(self) -> dict[str, object]:
        """The fields of `SamplingParams`. Raises InvalidRequest for what is not supported."""
        for name, reason in self._unsupported():
            raise InvalidRequest(name, reason)
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs", "needs logprobs: true")
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        asked = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return {**super().sampling(), "logprobs": logprobs, "max_tokens": asked}

    def conversation(self) -> Chat:
        """The messages and tools, as a template takes them. Raises InvalidRequest."""
        told = self if self.tool_choice != "none" else msgspec.structs.replace(self, tools=None)
        return conversation(self.messages, told)

    def _unsupported(self) -> Iterator[tuple[str, str]]:
        if self.functions:
            yield "functions", "are not supported: send tools"
        if self.tool_choice not in (None, "auto", "none"):
            yield "tool_choice", 'is not supported but for "auto" and "none": the LLM is free in what it writes'
        if self.response_format not in (None, {}) and self.response_format != {"type": "text"}:
            yield "response_format", 'is not supported but for {"type": "text"}'
        if self.chat_template is not None:
            yield "chat_template", "comes with the model, never with a request"


def _all_integers(items: Sequence[object]) -> Iterator[int]:
    for place, item in enumerate(items):
        if not isinstance(item, int):
            raise InvalidRequest(f"prompt[{place}]", "must be a token id, as what is before it")
        yield item
