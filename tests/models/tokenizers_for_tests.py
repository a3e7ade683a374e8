"""Tiny tokenizers of every family, built in memory and written as a model's directory."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from muxjax.models.tokenizer import Tokenizer

SPECIAL_TOKENS = ("<s>", "</s>", "<|user|>", "<|assistant|>")
TEXTS = [
    "def add(a, b):\n    return a + b\n",
    "naïve café 東京 😀 résumé",
    "the quick brown fox jumps over it",
    "12345",
]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>' + message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def byte_level() -> tokenizers.Tokenizer:
    """GPT-2's and Llama 3's family: every byte is a token."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def byte_fallback() -> tokenizers.Tokenizer:
    """Llama 2's family: words with `▁` for spaces, bytes for characters outside the vocabulary."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "a"), ("f", "o"), ("fo", "x")]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *(a + b for a, b in merges)])}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", *SPECIAL_TOKENS])
    return tokenizer


def word_piece() -> tokenizers.Tokenizer:
    """BERT's family: `##` joins a piece to the word before; no bytes."""
    pieces = ["[UNK]", *SPECIAL_TOKENS, "the", "play", "##ing", "##ed", "fox", ",", ".", "東", "京"]
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece(vocab={piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(["[UNK]", *SPECIAL_TOKENS])
    return tokenizer


def words() -> tokenizers.Tokenizer:
    """Whole words, a special token's text among them: looked up as a word, it would be the special token."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL_TOKENS, "hello", "world", "?"])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def with_bos(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same, with a post-processor that starts every text with <s>."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def load(directory: Path, tokenizer: tokenizers.Tokenizer, **config: Any) -> Tokenizer:
    """Write a tokenizer as a model's directory holds it, and load it from there."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    fields = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE, **config}
    (directory / "tokenizer_config.json").write_text(json.dumps(fields))
    loaded = Tokenizer.load(directory)
    if loaded is None:
        raise FileNotFoundError(directory / "tokenizer.json")
    return loaded
