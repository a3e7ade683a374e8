"""The demo models' tokenizers, trained with the `tokenizers` library on training text only."""

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

BEGIN, END, USER, ASSISTANT, UNKNOWN = "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|unknown|>"

# Words and identifiers (with the space before them); numbers; punctuation; line ends with the next indent; blanks.
PIECES = r" ?[\p{L}_]+|\d{1,3}| ?[^\s\p{L}_\d]+|(?:\r?\n)+[ \t]*|[ \t]+|\s"

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.role == 'user' %}{{ '<|user|>' + message.content }}"
    "{% elif message.role == 'assistant' %}{{ '<|assistant|>' + message.content + eos_token }}"
    "{% elif message.role != 'system' %}{{ raise_exception('unknown role: ' + message.role) }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_byte_level_bpe(
    texts: Iterable[str], vocab_size: int, special_tokens: tuple[str, ...]
) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer (Sennrich et al. 2016, Radford et al. 2019): any text, no unknown tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return with_begin_token(tokenizer)


def arithmetic_tokenizer() -> tokenizers.Tokenizer:
    """One token a character of a sum; spaces are dropped, so that `12 + 34 =` reads like `12+34=`."""
    characters = string.digits + "+="
    vocabulary = {token: index for index, token in enumerate([BEGIN, END, UNKNOWN, *characters])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Replace(" ", "")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([BEGIN, END, UNKNOWN])
    return with_begin_token(tokenizer)


def with_begin_token(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, its texts starting with the begin token."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return tokenizer


def save_tokenizer(tokenizer: tokenizers.Tokenizer, directory: Path, *, chat: bool, max_context: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json as Hugging Face's loaders expect them."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "model_max_length": max_context,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.token_to_id(UNKNOWN) is not None:
        config["unk_token"] = UNKNOWN
    if chat:
        config["chat_template"] = CHAT_TEMPLATE
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
