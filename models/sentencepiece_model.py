"""tokenizer.model files, as SentencePiece (Kudo and Richardson 2018) reads them, behind what `Tokenizer` needs.

The model's own pieces that are special are made control pieces, which SentencePiece never finds in a text. `legacy`
models (Llama 2) put a space before what follows a special token, as before a whole text; others do not.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sentencepiece

from muxjax.models.errors import ModelError
from muxjax.models.model_files import is_there, read_file, read_json
from muxjax.models.sentencepiece_proto import ModelProto, PieceType
from muxjax.models.token_bytes import BYTE_TOKEN

SENTENCEPIECE_FILE = "tokenizer.model"
ADDED_FILE = "added_tokens.json"
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class SentencePieceModel:
    """The vocabulary of a tokenizer.model, with the tokens that a model's other files add.

    Raises:
        ModelError: a file is damaged.
    """

    adds_bos = True  # unless tokenizer_config.json says otherwise

    def __init__(self, directory: Path, config: Mapping[str, Any], roles: Mapping[str, str]) -> None:
        proto = _read_model(directory / SENTENCEPIECE_FILE)
        added, special = _added_tokens(directory, config)
        self.strips_left, self.strips_right = (_flagged(config, name) for name in ("lstrip", "rstrip"))
        special |= set(roles.values())
        pieces = {piece.piece: token_id for token_id, piece in enumerate(proto.pieces)}
        for piece in proto.pieces:
            if piece.piece in special and piece.type not in (PieceType.UNKNOWN, PieceType.BYTE):
                piece.type = PieceType.CONTROL
        kinds = (PieceType.CONTROL, PieceType.UNKNOWN)
        self.special = {piece.piece: pieces[piece.piece] for piece in proto.pieces if piece.type in kinds}
        self.special |= {content: token_id for content, token_id in added.items() if content in special}
        plain = {content: token_id for content, token_id in added.items() if content not in self.special}
        self.vocab_size = max([len(proto.pieces) - 1, *added.values()]) + 1
        self._texts = {token_id: content.encode() for content, token_id in added.items()}
        self._pieces = proto.pieces
        self._plain_added = plain
        self._split_added = _splitter(plain)
        self._legacy = config.get("legacy") is not False
        self._has_prefix = bool(proto.normalizer_spec.add_dummy_prefix)
        self._start = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        proto.normalizer_spec.add_dummy_prefix = False
        self._middle = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())

    def encode(self, text: str, *, after_special: bool = False) -> list[int]:
        """The tokens of a text, none of them special; `after_special` if a template put it behind a special token."""
        token_ids: list[int] = []
        for part in self._split_added(text):
            if part in self._plain_added:
                token_ids.append(self._plain_added[part])
            elif part:
                begins = not token_ids and (self._legacy or not after_special)
                token_ids += (self._start if begins else self._middle).encode(part)
        return token_ids

    def token_bytes(self, token: int, previous: int | None) -> bytes:
        """The bytes that a token stands for after `previous`; at the start of a text `▁word` has no space."""
        if token in self._texts:
            return self._texts[token]
        if not 0 <= token < len(self._pieces):
            return b""
        piece = self._pieces[token]
        if piece.type == PieceType.BYTE:
            return bytes([int(piece.piece[3:-1], 16)])
        text = piece.piece.replace(_SPACE, " ")
        if previous is None and self._has_prefix:
            text = text.removeprefix(" ")
        return str(text).encode()


def _read_model(path: Path) -> Any:
    proto, content = ModelProto(), read_file(path, ModelError)
    try:
        proto.ParseFromString(content)
        if not proto.pieces:
            raise ValueError("it has no pieces")
        for piece in proto.pieces:
            if piece.type == PieceType.BYTE and not BYTE_TOKEN.fullmatch(piece.piece):
                raise ValueError(f"{piece.piece!r:.50} is no byte")
        sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    except Exception as error:  # protobuf's and SentencePiece's own
        raise ModelError(f"{path}: the tokenizer cannot be read ({error}); copy it again") from error
    return proto


def _added_tokens(directory: Path, config: Mapping[str, Any]) -> tuple[dict[str, int], set[str]]:
    """The tokens beside the model's own, and which of all tokens are special.

    As added_tokens.json and, in files of newer versions of transformers, tokenizer_config.json have them.
    """
    path = directory / ADDED_FILE
    try:
        added = dict(read_json(path, ModelError)) if is_there(path) else {}
        special = {content for content in config.get("additional_special_tokens") or () if isinstance(content, str)}
        for token_id, token in (config.get("added_tokens_decoder") or {}).items():
            added[token["content"]] = int(token_id)
            if token.get("special"):
                special.add(token["content"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{directory}: the added tokens are malformed: {error!r}") from error
    if not all(type(token_id) is int and token_id >= 0 for token_id in added.values()):
        raise ModelError(f"{path}: must map tokens to ids")
    return added, special


def _flagged(config: Mapping[str, Any], name: str) -> frozenset[str]:
    """The special tokens of tokenizer_config.json that take white space on one side."""
    tokens = (config.get("added_tokens_decoder") or {}).values()
    return frozenset(token["content"] for token in tokens if token.get("special") and token.get(name))


def _splitter(tokens: Mapping[str, int]) -> Any:
    """A function that cuts these tokens out of a text, the longest first."""
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})").split
