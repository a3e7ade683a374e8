"""tokenizer.json files, behind what `Tokenizer` needs."""

import json
from collections.abc import Mapping
from pathlib import Path

import tokenizers

from muxjax.models.errors import ModelError
from muxjax.models.model_files import check_file
from muxjax.models.rust_panics import panics_reported
from muxjax.models.token_bytes import TokenBytes


class TokenizerJson:
    """The vocabulary of a tokenizer.json; `roles` names the tokens that are special, whether it says so or not.

    Raises:
        ModelError: the file is damaged.
    """

    def __init__(self, path: Path, roles: Mapping[str, str]) -> None:
        self._with_specials = _read_tokenizer(path)
        self._plain = _read_tokenizer(path)
        self._plain.encode_special_tokens = True  # which, against its name, encodes them as ordinary text
        _mark_special(self._with_specials, roles)
        _mark_special(self._plain, roles)
        added = self._plain.get_added_tokens_decoder()
        self.special = {token.content: token_id for token_id, token in added.items() if token.special}
        self.strips_left = frozenset(token.content for token in added.values() if token.special and token.lstrip)
        self.strips_right = frozenset(token.content for token in added.values() if token.special and token.rstrip)
        self._middle = _without_first_prefix(self._plain)
        self.vocab_size: int = max(self._plain.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        bos = self.special.get(roles.get("bos_token", ""))
        self.adds_bos = bos in self._with_specials.encode("", add_special_tokens=True).ids  # by its post-processor
        self.token_bytes = TokenBytes(self._plain)

    def encode(self, text: str, *, after_special: bool = False) -> list[int]:
        """The tokens of a text, special ones being text, unless the vocabulary itself spells them.

        `after_special` if a template put it behind a special token: some vocabularies begin a whole text with a space.
        """
        tokenizer = self._middle if after_special else self._plain
        with panics_reported():
            token_ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return token_ids

    def encode_written(self, text: str) -> list[int]:
        """The tokens of what a chat template wrote, its special tokens among them."""
        with panics_reported():
            token_ids: list[int] = self._with_specials.encode(text, add_special_tokens=False).ids
        return token_ids


def _read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    check_file(path, ModelError)
    try:
        with panics_reported():
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{path}: the tokenizer cannot be read ({error}); copy it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _mark_special(tokenizer: tokenizers.Tokenizer, names: Mapping[str, str]) -> None:
    """Make the tokens that tokenizer_config.json gives a role special, where tokenizer.json forgot to."""
    known = [name for name in names.values() if tokenizer.token_to_id(name) is not None]
    already = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    tokenizer.add_special_tokens([name for name in known if name not in already])


def _without_first_prefix(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer for what does not begin a text: Metaspace's scheme "first" is then "never"."""
    fields = json.loads(tokenizer.to_str())
    splitter = fields.get("pre_tokenizer") or {}
    begins = [part for part in (splitter, *splitter.get("pretokenizers", ())) if part.get("prepend_scheme") == "first"]
    if not begins:
        return tokenizer
    for part in begins:
        part["prepend_scheme"] = "never"
    middle = tokenizers.Tokenizer.from_str(json.dumps(fields))
    middle.encode_special_tokens = True
    return middle
