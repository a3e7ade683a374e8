"""The gate for requests: what passes, what it fills in, and which field it names when it refuses."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muxjax.models.chat import ChatTemplateError
from muxjax.serving import validation
from muxjax.serving.endpoint import Chat, Endpoint
from muxjax.serving.errors import InvalidRequest
from muxjax.serving.request import SamplingParams
from muxjax.serving.validation import validate


class Characters:
    """Tokenises by code point."""

    takes_tools = False

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, token_ids))

    def token_bytes(self, token: int, previous: int | None, /) -> bytes:
        return chr(token).encode("utf-8", "replace")

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> list[int]:
        if messages[0]["role"] == "alien":
            raise ChatTemplateError("no aliens")
        return self.encode("".join(f"{message['role']}: {message['content']}\n" for message in messages))


TEXT = Endpoint("text", vocab_size=100, max_context=32, tokenizer=Characters())
IDS = Endpoint("ids", vocab_size=100, max_context=32, tokenizer=None)


def sampling(**raw: object) -> SamplingParams:
    return validate(TEXT, [1, 2, 3], raw).sampling


def test_an_empty_mapping_takes_every_default_and_fills_in_seed_and_max_tokens() -> None:
    params = sampling()
    assert params == SamplingParams(max_tokens=29, seed=params.seed)
    assert params.seed is not None
    assert params.seed != sampling().seed


def test_none_means_the_default() -> None:
    names = dict.fromkeys(SamplingParams.__dataclass_fields__)
    assert sampling(seed=5, **{k: v for k, v in names.items() if k != "seed"}) == SamplingParams(max_tokens=29, seed=5)


def test_every_field_is_taken_over() -> None:
    raw = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "logit_bias": {0: -100, 99: 100.0},
        "logprobs": 0,
        "seed": 2**64 - 1,
        "n": 16,
        "max_tokens": 29,
        "min_tokens": 29,
        "stop": ("x" * 256,),
        "stop_token_ids": (99,),
        "ignore_eos": True,
    }
    assert raw.keys() == SamplingParams.__dataclass_fields__.keys()
    assert sampling(**raw) == SamplingParams(**raw)


def test_max_tokens_is_at_most_what_the_context_has_left() -> None:
    assert sampling(max_tokens=10**30).max_tokens == 29


def test_a_top_k_of_the_whole_vocabulary_keeps_all() -> None:
    assert sampling(top_k=99).top_k == 99
    assert sampling(top_k=100).top_k == 0
    assert sampling(top_k=10**30).top_k == 0


def test_one_stop_string_needs_no_list_and_numpy_ids_are_ids() -> None:
    assert sampling(stop="end").stop == ("end",)
    assert validate(TEXT, np.array([4, 5]), {}).prompt_token_ids == (4, 5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", value) for value in (-0.1, 1e-9, 101, math.nan, math.inf, -math.inf, 10**400, "1", True, [])],
        *[("top_p", value) for value in (0, -1, 1.01, math.nan, math.inf)],
        *[("min_p", value) for value in (-0.1, 1.01, math.nan)],
        *[("repetition_penalty", value) for value in (0, -1, 101, math.nan, math.inf)],
        *[("presence_penalty", value) for value in (-2.1, 2.1, math.nan, 1e308)],
        *[("frequency_penalty", value) for value in (-2.1, 2.1, math.nan, 1e308)],
        *[("top_k", value) for value in (-1, 1.5, True, "3")],
        *[("n", value) for value in (0, -1, 17, 10**400)],
        *[("logprobs", value) for value in (-1, 21, True)],
        *[("seed", value) for value in (-1, 2**64, 0.5)],
        *[("max_tokens", value) for value in (0, -1, 2.0)],
        *[("min_tokens", value) for value in (-1, 30, 10**400)],
        *[("stop", value) for value in ("", ["a", ""], ["x" * 257], ["x"] * 17, [3], 3, b"x", {"a": 1})],
        *[("stop_token_ids", value) for value in ([100], [-1], [1] * 65, "ab", 3, [1.0])],
        *[("logit_bias", value) for value in ({100: 0}, {-1: 0}, {1: 101}, {1: -101}, {1: math.nan}, {1: "a"}, [1], 3)],
        ("logit_bias", dict.fromkeys(range(301), 0.0)),
        *[("ignore_eos", value) for value in (1, "true")],
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sampling(**{field: value})
    assert refused.value.field == field
    assert len(str(refused.value)) < 300


def test_min_tokens_above_max_tokens_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="min_tokens: is 6, but max_tokens and the context allow 5"):
        sampling(min_tokens=6, max_tokens=5)


def test_an_unknown_parameter_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidRequest, match=r"temperatur: is not .* \(did you mean 'temperature'\?\)"):
        sampling(temperatur=1.0)


@pytest.mark.parametrize("prompt", [[], [1] * 32, [100], [-1], [1, 2**70], [True], [1.0], ["1"]])
def test_a_bad_prompt_is_refused(prompt: list[int]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        validate(TEXT, prompt, {})
    assert refused.value.field == "prompt"


def test_the_longest_prompt_leaves_room_for_one_token() -> None:
    assert validate(TEXT, [1] * 31, {}).sampling.max_tokens == 1


def test_text_is_encoded_and_refused_when_empty_or_far_too_long() -> None:
    assert TEXT.encode("ab") == [97, 98]
    assert TEXT.encode(Chat([{"role": "user", "content": "a"}])) == [ord(c) for c in "user: a\n"]
    assert TEXT.encode([1, 2]) == [1, 2]
    long = "x" * (32 * 128 + 1)
    for prompt in ("", long, Chat([]), Chat([{"role": "user", "content": long}])):
        with pytest.raises(InvalidRequest, match=r"^prompt: "):
            TEXT.encode(prompt)


def test_what_the_chat_template_refuses_is_a_bad_prompt() -> None:
    with pytest.raises(InvalidRequest, match="prompt: is not what text takes: no aliens"):
        TEXT.encode(Chat([{"role": "alien", "content": "a"}]))


def test_tools_are_refused_where_the_template_does_not_know_them() -> None:
    with pytest.raises(
        InvalidRequest, match=r'tools: are nothing that text.s chat template knows: .*tool_choice: "none"'
    ):
        TEXT.encode(Chat([{"role": "user", "content": "a"}], tools=[{"type": "function"}]))


def test_a_long_tool_is_as_long_as_a_long_message() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * (32 * 128)}}]
    with pytest.raises(InvalidRequest, match=r"^prompt: has \d+ characters"):
        TEXT.encode(Chat([{"role": "user", "content": "a"}], tools=tools))


def test_an_llm_without_a_tokenizer_takes_token_ids_only() -> None:
    assert validate(IDS, [1], {}).llm == "ids"
    with pytest.raises(InvalidRequest, match="prompt: is text, and ids has no tokenizer: send token ids"):
        IDS.encode("a")
    with pytest.raises(InvalidRequest, match="prompt: is text, and ids has no tokenizer: send token ids"):
        IDS.encode(Chat([{"role": "user", "content": "a"}]))
    with pytest.raises(InvalidRequest, match="stop: needs text"):
        validate(IDS, [1], {"stop": "a"})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(list(SamplingParams.__dataclass_fields__)),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text("ab", max_size=3),
            st.lists(st.one_of(st.text("ab", max_size=3), st.integers())),
            st.dictionaries(st.integers(), st.floats()),
        ),
    )
)
def test_whatever_is_sent_it_is_refused_or_within_the_caps(raw: dict[str, object]) -> None:
    try:
        params = sampling(**raw)
    except InvalidRequest:
        return
    assert params.temperature == 0 or validation.MIN_TEMPERATURE <= params.temperature <= validation.MAX_TEMPERATURE
    assert 0 < params.top_p <= 1
    assert 1 <= params.n <= validation.MAX_N
    assert params.max_tokens is not None
    assert 0 <= params.min_tokens <= params.max_tokens <= 29
    assert all(math.isfinite(bias) and 0 <= token < 100 for token, bias in params.logit_bias.items())
