"""What a client asks for and what it gets back, in the words of every frontend and of the engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of one request are chosen and when they end.

    Values are checked by `muxjax.serving.validation`, which knows the caps and the LLM's vocabulary.

    Attributes:
        temperature: 0 is greedy; otherwise logits are divided by it.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the smallest set of tokens whose probability reaches p.
        min_p: keep tokens at least min_p times as likely as the likeliest.
        repetition_penalty: > 1 makes tokens of the prompt and of the output less likely (Keskar et al. 2019).
        presence_penalty: subtracted once from the logit of every token in the output.
        frequency_penalty: subtracted from a token's logit for each time it occurs in the output.
        logit_bias: token id -> value added to its logit.
        logprobs: how many of the likeliest tokens to report beside each chosen one; None reports nothing.
        seed: makes the request's tokens reproducible; None draws one when the request is accepted.
        n: how many completions to make.
        max_tokens: the most tokens of one completion; None takes what the context has left.
        min_tokens: no end-of-sequence or stop token before so many tokens.
        stop: strings that end the completion; they are not part of the text.
        stop_token_ids: tokens that end the completion, beside the LLM's own end-of-sequence tokens.
        ignore_eos: go on after the LLM's own end-of-sequence tokens.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    seed: int | None = None
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One validated request to one LLM.

    Attributes:
        id: unique among the unit's live requests.
        llm: the served LLM's name.
        prompt_token_ids: the prompt; at least one token.
        sampling: checked, with `seed` and `max_tokens` filled in.
        deadline: seconds of the engine's clock after which the request ends with DEADLINE; None never.
        caller: who sent it; callers wait in turn. None where callers are not told apart.
    """

    id: str
    llm: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    deadline: float | None = None
    caller: str | None = None


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"  # an end-of-sequence token, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    ABORT = "abort"  # the client cancelled
    DEADLINE = "deadline"  # the request's time ran out
    ERROR = "error"  # the engine could not go on with it; `error` says why


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probabilities of one position: of the chosen token, and of the likeliest ones, likeliest first."""

    chosen: float
    top_ids: tuple[int, ...]
    top_logprobs: tuple[float, ...]


class Output(msgspec.Struct, frozen=True):
    """What one step added to one completion of a request; the last one carries `finish_reason`.

    One is made for each token, for which a frozen dataclass takes ten times as long.

    Attributes:
        request_id: the request.
        index: which of the request's n completions.
        token_ids: the new tokens.
        text: the new text: whole characters only, nothing that may still turn into a stop string.
        logprobs: one entry per token when the request asked for them, else empty.
        finish_reason: set on the completion's last output.
        error: what went wrong, when finish_reason is ERROR.
    """

    request_id: str
    index: int
    token_ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    error: str | None = None
