import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from muxjax.models.detokenizer import Detokenizer
from muxjax.models.tokenizer import Tokenizer
from tests.models.tokenizers_for_tests import byte_fallback, byte_level, load, word_piece

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
any_tokens = st.lists(st.integers(-1, 420))
# Emoji with joiners and skin tones, CJK, combining marks, and whatever else Unicode has; no U+FFFD of its own.
texts = st.lists(st.sampled_from(["👩🏽‍🚀", "東京", "e\u0301", "🏳️‍🌈", "the fox", "\n", " "]) | st.text(max_size=4)).map(
    lambda parts: "".join(parts).replace(INCOMPLETE, "")
)


@pytest.fixture(scope="module", params=[byte_level, byte_fallback, word_piece], ids=lambda make: make.__name__)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(tmp_path_factory.mktemp("any"), request.param())


@pytest.fixture(scope="module", params=[byte_level, byte_fallback], ids=lambda make: make.__name__)
def byte_tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(tmp_path_factory.mktemp("bytes"), request.param())


@pytest.fixture(scope="module")
def byte_level_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    made = byte_level()
    return load(tmp_path_factory.mktemp("pair"), made), made


def stream(tokenizer: Tokenizer, token_ids: list[int], prompt: list[int] | None = None, at_once: int = 1) -> list[str]:
    detokenizer = Detokenizer(tokenizer, prompt or [])
    pushed = [detokenizer.push(token_ids[start : start + at_once]) for start in range(0, len(token_ids), at_once)]
    return [*pushed, detokenizer.finish()]


@given(token_ids=any_tokens, at_once=st.integers(1, 5))
def test_a_stream_joined_is_the_whole_text(tokenizer: Tokenizer, token_ids: list[int], at_once: int) -> None:
    assert "".join(stream(tokenizer, token_ids, at_once=at_once)) == tokenizer.decode(token_ids)


@given(token_ids=any_tokens)
def test_byte_level_streams_agree_with_the_library(
    byte_level_pair: tuple[Tokenizer, tokenizers.Tokenizer], token_ids: list[int]
) -> None:
    tokenizer, library = byte_level_pair
    known = [token for token in token_ids if tokenizer.has_text(token)]
    assert "".join(stream(tokenizer, known)) == library.decode(known)


@given(text=texts)
def test_only_whole_characters_come_out(byte_tokenizer: Tokenizer, text: str) -> None:
    parts = stream(byte_tokenizer, byte_tokenizer.encode(text))
    assert "".join(parts) == text
    assert not any(INCOMPLETE in part for part in parts)


@given(text=texts, cut=st.integers(0, 100))
def test_a_completion_adds_to_the_prompts_text(byte_tokenizer: Tokenizer, text: str, cut: int) -> None:
    token_ids = byte_tokenizer.encode(text)
    prompt, output = token_ids[:cut], token_ids[cut:]
    shown = byte_tokenizer.decode(prompt).rstrip(INCOMPLETE)  # a prompt may end inside a character
    assert shown + "".join(stream(byte_tokenizer, output, prompt)) == text


def test_a_text_that_ends_inside_a_character_keeps_what_there_is(byte_tokenizer: Tokenizer) -> None:
    token_ids = byte_tokenizer.encode("😀")
    *pushed, rest = stream(byte_tokenizer, token_ids[:-1])
    assert "".join(pushed) == ""
    assert rest == INCOMPLETE


def test_a_word_keeps_its_space_after_a_prompt(tmp_path) -> None:
    tokenizer = load(tmp_path, byte_fallback())
    prompt, output = tokenizer.encode("the"), tokenizer.encode("the")
    assert stream(tokenizer, output) == ["the", ""]
    assert stream(tokenizer, output, prompt) == [" the", ""]


def test_special_tokens_have_no_text(tokenizer: Tokenizer) -> None:
    bos = tokenizer.bos_token_id
    token_ids = tokenizer.encode("the fox")
    assert "".join(stream(tokenizer, [bos, *token_ids, bos])) == tokenizer.decode(token_ids)
