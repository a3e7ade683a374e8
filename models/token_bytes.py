"""The bytes that each token stands for, whatever the tokenizer's family."""

import json
import re
from functools import lru_cache
from typing import Any

import tokenizers

from muxjax.models.rust_panics import panics_reported

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """token_bytes(token, previous) -> bytes; the text of a sequence is its tokens' bytes, joined and read as UTF-8.

    Tokens of byte-level vocabularies and byte-fallback tokens (`<0xE2>`) may stand for a part of a character only.
    Others stand for text, which can depend on the token before: at the start of a text `▁word` has no space.
    Tokens without text, and ids that the tokenizer does not know, stand for nothing.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        kinds = _decoder_kinds(json.loads(tokenizer.to_str()).get("decoder"))
        self._byte_level = "ByteLevel" in kinds
        self._byte_fallback = "ByteFallback" in kinds
        self._cached = lru_cache(maxsize=65_536)(self._find)

    def __call__(self, token: int, previous: int | None) -> bytes:
        """The token's bytes after `previous`, the last token before it that stands for text (None at the start)."""
        return self._cached(token, None if self._byte_level else previous)

    def _find(self, token: int, previous: int | None) -> bytes:
        content = self._tokenizer.id_to_token(token)
        if content is None:
            return b""
        if self._byte_level:
            return _byte_level_bytes(content)
        if self._byte_fallback and (match := BYTE_TOKEN.fullmatch(content)):
            return bytes.fromhex(match[1])
        if previous is None:
            return self._decode([token]).encode()
        return self._decode([previous, token])[len(self._decode([previous])) :].encode()

    def _decode(self, tokens: list[int]) -> str:
        try:
            with panics_reported():
                return self._tokenizer.decode(tokens, skip_special_tokens=False)
        except Exception:  # the file's decoder does not fit its vocabulary: that is no other LLM's concern
            return "\ufffd"


def _decoder_kinds(decoder: Any) -> set[str]:
    """The types of a tokenizer.json's decoder and of its parts."""
    if decoder is None:
        return set()
    return {decoder["type"]}.union(*(_decoder_kinds(part) for part in decoder.get("decoders", ())))


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte (Radford et al. 2019): printable Latin-1 stays, the rest moves up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


BYTE_ALPHABET = _byte_alphabet()


def _byte_level_bytes(content: str) -> bytes:
    try:
        return bytes(BYTE_ALPHABET[character] for character in content)
    except KeyError:  # an added token, written as it reads
        return content.encode()
