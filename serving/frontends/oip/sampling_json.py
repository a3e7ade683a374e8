"""`sampling_parameters`: vLLM's sampling options in JSON, whose numbers may be strings."""

from collections.abc import Callable, Mapping

import msgspec

from muxjax.serving.checks import shown
from muxjax.serving.errors import InvalidRequest

FIELD = "sampling_parameters"

_MOST_DIGITS = 32


def read_sampling_json(text: str) -> dict[str, object]:
    """Fields of `SamplingParams`, and "bad_words"; unknown ones pass, for the validator to name.

    Raises:
        InvalidRequest: it is no JSON object, or a value is no number where one belongs.
    """
    try:
        sent = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(FIELD, f"is not JSON: {error}") from None
    if not isinstance(sent, dict):
        raise InvalidRequest(FIELD, f"must be a JSON object, not {shown(sent)}")
    fields = {name: _READERS.get(name, _as_it_is)(name, value) for name, value in sent.items()}
    if fields.get("top_k") == -1:  # vLLM's word for all
        fields["top_k"] = 0
    return fields


def _as_it_is(name: str, value: object) -> object:
    return value


def _whole(name: str, value: object) -> object:
    return _number(name, value, int) if isinstance(value, str) else value


def _real(name: str, value: object) -> object:
    return _number(name, value, float) if isinstance(value, str) else value


def _number(name: str, value: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(value[: _MOST_DIGITS + 1])
    except ValueError:
        raise InvalidRequest(name, f"must be a number, not {shown(value)}") from None


def _truth(name: str, value: object) -> object:
    words = {"true": True, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _bias(name: str, value: object) -> object:
    """JSON's keys are strings; the validator wants token ids."""
    if not isinstance(value, Mapping):
        return value
    return {_whole(name, token): _real(name, bias) for token, bias in value.items()}


def _ids(name: str, value: object) -> object:
    return [_whole(name, token) for token in value] if isinstance(value, list) else value


_READERS: Mapping[str, Callable[[str, object], object]] = {
    **dict.fromkeys(("max_tokens", "min_tokens", "top_k", "seed", "n", "logprobs"), _whole),
    **dict.fromkeys(
        ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"), _real
    ),
    "ignore_eos": _truth,
    "logit_bias": _bias,
    "stop_token_ids": _ids,
}
