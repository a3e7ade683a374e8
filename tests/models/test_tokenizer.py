import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from muxjax.models.tokenizer import Tokenizer, TokenizerError
from tests.models.tokenizers_for_tests import (
    SPECIAL_TOKENS,
    byte_fallback,
    byte_level,
    load,
    with_bos,
    word_piece,
    words,
)

FAMILIES = {"byte_level": byte_level, "byte_fallback": byte_fallback, "word_piece": word_piece, "words": words}
spelled = st.lists(st.sampled_from([*SPECIAL_TOKENS, "<", "|", "s>", " ", "hello", "é"])).map("".join)


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(tmp_path_factory.mktemp(request.param), FAMILIES[request.param]())


@pytest.fixture(scope="module")
def bytes_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(tmp_path_factory.mktemp("bytes"), byte_level())


@given(text=spelled)
def test_a_users_text_never_makes_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    pieces = [tokenizer.decode([token], skip_special_tokens=False) for token in tokenizer.encode(text, add_bos=False)]
    assert set(SPECIAL_TOKENS).isdisjoint(pieces)


@given(text=st.text())
def test_byte_level_text_comes_back(bytes_tokenizer: Tokenizer, text: str) -> None:
    assert bytes_tokenizer.decode(bytes_tokenizer.encode(text)) == text


def test_lone_surrogates_are_read_as_unknown_characters(bytes_tokenizer: Tokenizer) -> None:
    assert bytes_tokenizer.decode(bytes_tokenizer.encode("a\ud800b")) == "a\N{REPLACEMENT CHARACTER}b"
    chat = bytes_tokenizer.apply_chat_template([{"role": "user", "content": "\udfff"}])
    assert "\N{REPLACEMENT CHARACTER}" in bytes_tokenizer.decode(chat)


def test_special_tokens_are_decoded_on_request_only(bytes_tokenizer: Tokenizer) -> None:
    token_ids = [0, *bytes_tokenizer.encode("fox"), 1]
    assert bytes_tokenizer.decode(token_ids) == "fox"
    assert bytes_tokenizer.decode(token_ids, skip_special_tokens=False) == "<s>fox</s>"


def test_ids_outside_the_vocabulary_have_no_text(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("the fox", add_bos=False)
    assert tokenizer.decode([*token_ids, 10**6, -1]) == tokenizer.decode(token_ids)


def test_decode_agrees_with_the_library(tokenizer: Tokenizer) -> None:
    library = tokenizers.Tokenizer.from_file(str(tokenizer._directory / "tokenizer.json"))
    token_ids = tokenizer.encode("the fox, playing the 東京 hello world", add_bos=False)
    assert tokenizer.decode(token_ids) == library.decode(token_ids)


@pytest.mark.parametrize(
    ("post_processor", "add_bos_token", "starts_with_bos"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_bos_comes_as_the_models_files_say(
    tmp_path, post_processor: bool, add_bos_token: bool | None, starts_with_bos: bool
) -> None:
    made = with_bos(byte_level()) if post_processor else byte_level()
    config = {} if add_bos_token is None else {"add_bos_token": add_bos_token}
    tokenizer = load(tmp_path, made, **config)
    assert (tokenizer.encode("fox")[0] == tokenizer.bos_token_id) is starts_with_bos
    assert tokenizer.encode("fox", add_bos=False)[0] != tokenizer.bos_token_id


def test_a_role_makes_a_token_special(tmp_path) -> None:
    made = byte_level()
    made.add_tokens(["<stop>"])
    tokenizer = load(tmp_path, made, eos_token={"content": "<stop>"})
    assert made.token_to_id("<stop>") not in tokenizer.encode("a<stop>b")


def test_a_directory_without_a_tokenizer_has_none(tmp_path) -> None:
    assert Tokenizer.load(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}', "[]"])
def test_a_damaged_tokenizer_names_its_file(tmp_path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"chat_template": 3})])
def test_a_damaged_configuration_names_its_file(tmp_path, content: str) -> None:
    load(tmp_path, byte_level())
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
        Tokenizer.load(tmp_path)


def test_saved_files_load_again(bytes_tokenizer: Tokenizer, tmp_path) -> None:
    bytes_tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again is not None
    assert again.encode("the quick 東京") == bytes_tokenizer.encode("the quick 東京")
    assert again.has_chat_template
