"""tokenizer.model: the tokens are SentencePiece's own, and special ones come from templates only."""

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from muxjax.models.detokenizer import Detokenizer
from muxjax.models.tokenizer import Tokenizer, TokenizerError
from tests.models.tokenizers_for_tests import TEMPLATE

SENTENCES = [
    "the quick brown fox jumps over it",
    "naïve café résumé",
    "def add(a, b): return a + b",
    "12345 67890",
] * 20
SPELLED = st.lists(
    st.sampled_from(
        ["<s>", "</s>", "<|user|>", "<turn>", "<unk>", "<0x41>", " ", "▁", "the fox", "é", "東京", "😀", "\n"]
    )
).map("".join)


def train(directory: Path, model_type: str, **options: Any) -> sentencepiece.SentencePieceProcessor:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "corpus.txt").write_text("\n".join(SENTENCES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(directory / "corpus.txt"),
        model_prefix=str(directory / "tokenizer"),
        model_type=model_type,
        vocab_size=360,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))


def load(directory: Path, **config: Any) -> Tokenizer:
    fields = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": TEMPLATE, **config}
    (directory / "tokenizer_config.json").write_text(json.dumps(fields))
    tokenizer = Tokenizer.load(directory)
    assert tokenizer is not None
    return tokenizer


KINDS: dict[str, dict[str, Any]] = {
    "bpe as Llama 2": {"model_type": "bpe", "normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "unigram as T5": {"model_type": "unigram"},
    "bpe as Gemma": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<turn>"],
    },
}
Pair = tuple[Tokenizer, sentencepiece.SentencePieceProcessor]


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("spm")
    reference = train(directory, **KINDS[request.param])
    return load(directory, additional_special_tokens=["<turn>"]), reference


@given(text=st.one_of(st.text(), SPELLED.filter(lambda text: "<turn>" not in text)))
def test_a_text_has_the_tokens_that_sentencepiece_gives_it(pair: Pair, text: str) -> None:
    tokenizer, reference = pair
    token_ids = tokenizer.encode(text, add_bos=False)
    assert token_ids == reference.encode(text)
    if reference.unk_id() not in token_ids:
        assert tokenizer.decode(token_ids) == reference.decode(token_ids)


@given(text=SPELLED)
def test_a_users_text_never_makes_a_special_token(pair: Pair, text: str) -> None:
    tokenizer, _ = pair
    assert all(map(tokenizer.has_text, tokenizer.encode(text, add_bos=False)))
    chat = tokenizer.apply_chat_template([{"role": "user", "content": text}])
    assert [token for token in chat if not tokenizer.has_text(token)] == [tokenizer.bos_token_id]


@given(text=st.text(), cut=st.integers(0, 20))
def test_streamed_text_is_the_whole_text(pair: Pair, text: str, cut: int) -> None:
    tokenizer, _ = pair
    token_ids = tokenizer.encode(text)
    detokenizer = Detokenizer(tokenizer, token_ids[:cut])
    streamed = "".join(detokenizer.push([token]) for token in token_ids[cut:]) + detokenizer.finish()
    assert tokenizer.decode(token_ids).endswith(streamed)
    assert cut > 0 or streamed == tokenizer.decode(token_ids)


@pytest.fixture(scope="module")
def llama2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("llama2")
    train(directory, **KINDS["bpe as Llama 2"])
    return directory


class TestLlama2:
    def test_texts_begin_with_bos_unless_the_configuration_says_no(self, llama2: Path) -> None:
        assert load(llama2).encode("fox")[0] == 1
        assert load(llama2, add_bos_token=False).encode("fox")[0] != 1

    def test_a_space_comes_before_what_follows_a_special_token_in_legacy_models_only(self, llama2: Path) -> None:
        template = "<s>fox</s>fox"
        legacy = load(llama2, chat_template=template)
        assert legacy.apply_chat_template([{"role": "user", "content": ""}]) == [
            1, *legacy.encode("fox", add_bos=False), 2, *legacy.encode("fox", add_bos=False),
        ]  # fmt: skip
        newer = load(llama2, chat_template=template, legacy=False)
        written = newer.apply_chat_template([{"role": "user", "content": ""}])
        assert written != legacy.apply_chat_template([{"role": "user", "content": ""}])
        assert newer.decode(written[1:]) == "foxfox"

    def test_added_tokens_are_found_in_texts_unless_they_are_special(self, llama2: Path) -> None:
        size = sentencepiece.SentencePieceProcessor(model_file=str(llama2 / "tokenizer.model")).vocab_size()
        (llama2 / "added_tokens.json").write_text(json.dumps({"<mark>": size}))
        decoder = {str(size + 1): {"content": "<|user|>", "special": True}}
        tokenizer = load(llama2, added_tokens_decoder=decoder)
        (llama2 / "added_tokens.json").unlink()
        assert tokenizer.vocab_size == size + 2
        assert size in tokenizer.encode("a<mark>b")
        assert tokenizer.decode(tokenizer.encode("a<mark>b")) == "a<mark>b"
        assert size + 1 not in tokenizer.encode("a<|user|>b")
        chat = tokenizer.apply_chat_template([{"role": "user", "content": "x<|user|>y"}])
        assert chat.count(size + 1) == 1

    def test_its_files_are_saved_with_it(self, llama2: Path, tmp_path: Path) -> None:
        load(llama2).save(tmp_path)
        again = Tokenizer.load(tmp_path)
        assert again is not None
        assert again.encode("the fox") == load(llama2).encode("the fox")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x0a\x02\xff\xff"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model"):
        Tokenizer.load(tmp_path)
