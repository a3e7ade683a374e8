"""The one gate between what clients send and what the engine runs: every frontend's requests pass through `validate`.

One bad request must never reach the engine, which all LLMs share: each value is checked for its type, for being finite
and for its cap before anything is allocated for it.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import fields

from muxjax.serving import checks
from muxjax.serving.endpoint import Endpoint
from muxjax.serving.errors import InvalidRequest, nearest
from muxjax.serving.request import Request, SamplingParams

MAX_N = 16
MAX_LOGPROBS = 20
MAX_LOGIT_BIAS_ENTRIES = 300
MAX_LOGIT_BIAS = 100.0
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256
MAX_STOP_TOKEN_IDS = 64
MAX_SEED = 2**64 - 1
MIN_TEMPERATURE = 1e-3  # below it, logits / temperature would leave float32's useful range
MAX_TEMPERATURE = 100.0
MIN_TOP_P = 1e-6
MIN_REPETITION_PENALTY = 0.01
MAX_REPETITION_PENALTY = 100.0
MAX_PENALTY = 2.0

_DEFAULTS: Mapping[str, object] = {
    field.name: getattr(SamplingParams(), field.name) for field in fields(SamplingParams)
}


def validate(
    endpoint: Endpoint,
    prompt_token_ids: Sequence[int],
    sampling: Mapping[str, object],
    *,
    request_id: str | None = None,
    deadline: float | None = None,
    caller: str | None = None,
) -> Request:
    """The request that the engine runs, with `seed` and `max_tokens` filled in.

    Args:
        endpoint: the LLM that it is for.
        prompt_token_ids: the prompt, tokenised.
        sampling: any of the fields of `SamplingParams`, as the client sent them; None takes the model's default,
            else that of `SamplingParams`.
        request_id: None draws one.
        deadline: seconds of the engine's clock (`time.monotonic`); None never.
        caller: who sent it; None where callers are not told apart.

    Raises:
        InvalidRequest: naming the first field that is wrong.
    """
    prompt = _prompt(endpoint, prompt_token_ids)
    for name in sampling:
        if name not in _DEFAULTS:
            raise InvalidRequest(name, f"is not a sampling parameter{nearest(name, _DEFAULTS.keys())}")
    raw = {**_DEFAULTS, **endpoint.sampling, **{name: value for name, value in sampling.items() if value is not None}}
    return Request(
        id=request_id or secrets.token_hex(16),
        llm=endpoint.name,
        prompt_token_ids=prompt,
        sampling=_sampling(endpoint, raw, room=endpoint.max_context - len(prompt)),
        deadline=deadline,
        caller=caller,
    )


def _prompt(endpoint: Endpoint, prompt_token_ids: Sequence[int]) -> tuple[int, ...]:
    """The prompt's ids: at least one, in the vocabulary, and leaving room for a token of the completion."""
    if len(prompt_token_ids) == 0:
        raise InvalidRequest("prompt", "is empty: send at least one token")
    if len(prompt_token_ids) >= endpoint.max_context:
        raise InvalidRequest(
            "prompt",
            f"has {len(prompt_token_ids)} tokens; {endpoint.name}'s context holds {endpoint.max_context}, of prompt "
            f"and completion together: send at most {endpoint.max_context - 1}",
        )
    return checks.token_ids("prompt", prompt_token_ids, endpoint.vocab_size)


def _sampling(endpoint: Endpoint, raw: Mapping[str, object], *, room: int) -> SamplingParams:
    """Every field, checked; `room` is how many tokens the context has left after the prompt."""
    max_tokens, min_tokens = _lengths(raw, room)
    logprobs, seed = raw["logprobs"], raw["seed"]
    top_k = checks.integer("top_k", raw["top_k"], 0)
    return SamplingParams(
        temperature=_temperature(raw["temperature"]),
        top_k=top_k if top_k < endpoint.vocab_size else 0,
        top_p=checks.number("top_p", raw["top_p"], MIN_TOP_P, 1.0),
        min_p=checks.number("min_p", raw["min_p"], 0.0, 1.0),
        repetition_penalty=checks.number(
            "repetition_penalty", raw["repetition_penalty"], MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY
        ),
        presence_penalty=checks.number("presence_penalty", raw["presence_penalty"], -MAX_PENALTY, MAX_PENALTY),
        frequency_penalty=checks.number("frequency_penalty", raw["frequency_penalty"], -MAX_PENALTY, MAX_PENALTY),
        logit_bias=_logit_bias(raw["logit_bias"], endpoint.vocab_size),
        logprobs=None if logprobs is None else checks.integer("logprobs", logprobs, 0, MAX_LOGPROBS),
        seed=secrets.randbits(32) if seed is None else checks.integer("seed", seed, 0, MAX_SEED),
        n=checks.integer("n", raw["n"], 1, MAX_N),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        stop=_stop(endpoint, raw["stop"]),
        stop_token_ids=checks.token_ids(
            "stop_token_ids",
            checks.bounded_list("stop_token_ids", raw["stop_token_ids"], MAX_STOP_TOKEN_IDS),
            endpoint.vocab_size,
        ),
        ignore_eos=checks.boolean("ignore_eos", raw["ignore_eos"]),
    )


def _lengths(raw: Mapping[str, object], room: int) -> tuple[int, int]:
    """max_tokens, at most what the context has left, and min_tokens."""
    asked = raw["max_tokens"]
    max_tokens = room if asked is None else min(checks.integer("max_tokens", asked, 1), room)
    min_tokens = checks.integer("min_tokens", raw["min_tokens"], 0)
    if min_tokens > max_tokens:
        raise InvalidRequest(
            "min_tokens", f"is {checks.shown(min_tokens)}, but max_tokens and the context allow {max_tokens}"
        )
    return max_tokens, min_tokens


def _temperature(value: object) -> float:
    temperature = checks.number("temperature", value, 0.0, MAX_TEMPERATURE)
    if 0.0 < temperature < MIN_TEMPERATURE:
        raise InvalidRequest("temperature", f"is {temperature:g}: send 0 (greedy), or at least {MIN_TEMPERATURE:g}")
    return temperature


def _logit_bias(value: object, vocab_size: int) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise InvalidRequest("logit_bias", f"must map token ids to numbers, not be {checks.shown(value)}")
    if len(value) > MAX_LOGIT_BIAS_ENTRIES:
        raise InvalidRequest("logit_bias", f"has {len(value)} entries; at most {MAX_LOGIT_BIAS_ENTRIES} are taken")
    ids = checks.token_ids("logit_bias", value, vocab_size)
    biases = (checks.number("logit_bias", bias, -MAX_LOGIT_BIAS, MAX_LOGIT_BIAS) for bias in value.values())
    return dict(zip(ids, biases, strict=True))


def _stop(endpoint: Endpoint, value: object) -> tuple[str, ...]:
    strings = []
    for string in checks.bounded_list("stop", [value] if isinstance(value, str) else value, MAX_STOP_STRINGS):
        if not isinstance(string, str) or not 1 <= len(string) <= MAX_STOP_CHARACTERS:
            raise InvalidRequest(
                "stop", f"holds {checks.shown(string)}; each must be a string of 1 to {MAX_STOP_CHARACTERS} characters"
            )
        strings.append(string)
    if strings and endpoint.tokenizer is None:
        raise InvalidRequest("stop", f"needs text, and {endpoint.name} has no tokenizer: send stop_token_ids")
    return tuple(strings)
