"""Small tokenizers of the published kinds, and the texts and conversations that they are compared over.

They differ in what published ones differ in: how a text is normalized and cut, what is put before it, what becomes of
characters outside the vocabulary, and how added tokens take the white space around them.
"""

import json
from collections.abc import Callable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

SPECIAL_TOKENS = ("<s>", "</s>", "<|user|>", "<|end of turn|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>' if message.role == 'user' else '' }}"
    "\n{{ message.content }} <|end of turn|> {% endfor %}{{ eos_token }} the fox"
)
_WORDS = ["the", "fox", "a", "hello", "world", "12", "34", "é", "東京", "def"]
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(pattern: str, *, ignore_merges: bool = False) -> tokenizers.Tokenizer:
    """Every byte is a token, and some words are, by merges from the left; one has a token but no merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []
    whole = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for word in [*_WORDS, *(f" {word}" for word in _WORDS)]:
        ((spelled, _),) = whole.pre_tokenize_str(word)
        for end in range(2, len(spelled) + 1):
            if spelled[:end] not in vocabulary:
                vocabulary[spelled[:end]] = len(vocabulary)
                merges.append((spelled[: end - 1], spelled[end - 1]))
    vocabulary["quick"] = len(vocabulary)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def gpt2() -> tokenizers.Tokenizer:
    """Bytes, cut as GPT-2 does."""
    return _byte_level(_GPT2)


def llama3() -> tokenizers.Tokenizer:
    """Bytes, whole words before merges; some added tokens are none of the special ones."""
    tokenizer = _byte_level(_LLAMA3, ignore_merges=True)
    tokenizer.add_tokens(["<think>", AddedToken("<tool call>", normalized=False)])
    return tokenizer


def qwen() -> tokenizers.Tokenizer:
    """Bytes of composed characters."""
    tokenizer = _byte_level(_LLAMA3)
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _pieces() -> list[str]:
    """Bytes, letters, and the words, with and without `▁` for the space before them."""
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    words = [word[:end] for word in ["▁the", "▁fox", "▁a", "the", "▁▁", "▁hello"] for end in range(2, len(word) + 1)]
    return list(
        dict.fromkeys(["<unk>", *SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *words])
    )


def _spaces_as_letters(*, strip: bool) -> tokenizers.Tokenizer:
    pieces = _pieces()
    merges = [(piece[:-1], piece[-1]) for piece in pieces[pieces.index("9") + 1 :]]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    first = [decoders.Strip(" ", 1, 0)] if strip else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *first]
    )
    tokenizer.add_special_tokens(["<unk>", *SPECIAL_TOKENS])
    return tokenizer


def llama2() -> tokenizers.Tokenizer:
    """A space before every piece of text between special tokens."""
    tokenizer = _spaces_as_letters(strip=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def _metaspace(scheme: str) -> tokenizers.Tokenizer:
    tokenizer = _spaces_as_letters(strip=scheme != "never")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return tokenizer


def space_before_the_text() -> tokenizers.Tokenizer:
    """A space before what begins the whole text alone."""
    return _metaspace("first")


def space_before_all() -> tokenizers.Tokenizer:
    """A space before all that does not begin with one."""
    return _metaspace("always")


def gemma() -> tokenizers.Tokenizer:
    """No space before anything."""
    tokenizer = _spaces_as_letters(strip=False)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    return tokenizer


def phi3() -> tokenizers.Tokenizer:
    """Special tokens that take white space beside them, and words that stand alone."""
    tokenizer = space_before_the_text()
    tokenizer.add_special_tokens(
        [AddedToken("<|user|>", rstrip=True), AddedToken("<|end of turn|>", lstrip=True, rstrip=True)]
    )
    tokenizer.add_tokens([AddedToken("fox12", single_word=True), AddedToken("<mark>", lstrip=True)])
    return tokenizer


def t5() -> tokenizers.Tokenizer:
    """The likeliest pieces; compatible characters are one."""
    scores = [(piece, -float(len(_pieces()) - index) / 100) for index, piece in enumerate(_pieces())]
    tokenizer = tokenizers.Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def bert() -> tokenizers.Tokenizer:
    """Lower case words; `##` joins a piece to the one before."""
    pieces = ["[UNK]", *SPECIAL_TOKENS, "the", "play", "##ing", "fox", "hello", "a", ",", ".", "東", "京", "12", "##34"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(["[UNK]", *SPECIAL_TOKENS])
    return tokenizer


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    make.__name__: make
    for make in (gpt2, llama3, qwen, llama2, space_before_the_text, space_before_all, gemma, phi3, t5, bert)
}
TEXTS = [
    *("", "the fox", " the fox", "  a  ", "a ", "\n", "\n\n the", "hello  world\n\n\tx", "def f(a):\n    return a\n"),
    *(
        "👩🏽‍🚀 東京 naïve",
        "e\u0301 é \u212b \ufb01",
        "123456 a1b2",
        "\u00a0x\u3000y",
        "\u200b\ufeff",
        "a\r\nb",
        "\uff11",
    ),
    *(
        "quick brown",
        "<think>hm</think>",
        "a <tool call> b",
        " <mark> x",
        "the fox12",
        "fox123",
        "fox12.",
        "<0x41> ▁a ▁",
    ),
    *("<|", "a" * 50, "playing, The Fox.", "IT'S the"),
]
CHATS = [
    [{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}, {"role": "user", "content": "x"}]
    for text in TEXTS
]


def write(kind: str, directory: Path) -> None:
    """Write a tokenizer as a model's directory has it."""
    directory.mkdir(parents=True, exist_ok=True)
    KINDS[kind]().save(str(directory / "tokenizer.json"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]" if kind == "bert" else "<unk>"}
    if kind in ("gpt2", "llama3", "qwen"):
        del roles["unk_token"]
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, **roles}
    (directory / "tokenizer_config.json").write_text(json.dumps(fields))
