"""tokenizer.json files, behind what `Tokenizer` needs."""

from collections.abc import Mapping
from pathlib import Path

import tokenizers

from muxjax.models.errors import ModelError
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
        self.vocab_size: int = max(self._plain.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        bos = self.special.get(roles.get("bos_token", ""))
        self.adds_bos = bos in self._with_specials.encode("", add_special_tokens=True).ids  # by its post-processor
        self.token_bytes = TokenBytes(self._plain)

    def encode(self, text: str, *, after_special: bool = False) -> list[int]:
        """The tokens of a text, special ones being text, unless the vocabulary itself spells them.

        `after_special` makes no difference: what the tokenizer puts before a text, it puts before every piece of it.
        """
        token_ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return token_ids

    def encode_written(self, text: str) -> list[int]:
        """The tokens of what a chat template wrote, its special tokens among them."""
        token_ids: list[int] = self._with_specials.encode(text, add_special_tokens=False).ids
        return token_ids


def _read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    try:
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
