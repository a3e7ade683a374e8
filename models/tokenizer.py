"""Text to tokens and back, by a model's own tokenizer.json or tokenizer.model."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from muxjax.models.chat import ChatTemplate, ChatTemplateError
from muxjax.models.errors import ModelError
from muxjax.models.model_files import is_there, read_json, read_text
from muxjax.models.rust_panics import panics_reported
from muxjax.models.sentencepiece_model import ADDED_FILE, SENTENCEPIECE_FILE, SentencePieceModel
from muxjax.models.special_marks import special_token_pattern, split_marked
from muxjax.models.tokenizer_json import TokenizerJson

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
FILES = (TOKENIZER_FILE, SENTENCEPIECE_FILE, CONFIG_FILE, TEMPLATE_FILE, ADDED_FILE)
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


class TokenizerError(ModelError):
    """A tokenizer's files are damaged, or do not fit together."""


class Tokenizer:
    """A Hugging Face tokenizer that keeps text and control tokens apart.

    Text of a user never becomes a special token, whatever it spells: only `add_bos` and the chat template make those.
    Made by `Tokenizer.load`.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any], template: str | None, template_file: str) -> None:
        self._directory = directory
        names = {role: name for role in ROLES if (name := _token_name(config.get(role))) is not None}
        self._vocabulary: TokenizerJson | SentencePieceModel
        if is_there(directory / TOKENIZER_FILE):
            self._vocabulary = TokenizerJson(directory / TOKENIZER_FILE, names)
        else:
            self._vocabulary = SentencePieceModel(directory, config, names)
        self._special = self._vocabulary.special
        self._names = {token_id: name for name, token_id in self._special.items()}
        roles = {name for role, name in names.items() if role != "unk_token"}
        self._control_ids = frozenset(
            token_id for name, token_id in self._special.items() if name in roles or name != names.get("unk_token")
        )
        self._pattern = special_token_pattern(self._special)
        self.bos_token_id: int | None = self._special.get(names.get("bos_token", ""))
        self.eos_token_id: int | None = self._special.get(names.get("eos_token", ""))
        wanted = config.get("add_bos_token")
        adds_bos = self._vocabulary.adds_bos if wanted is None else wanted
        self._prefix = (self.bos_token_id,) if adds_bos and self.bos_token_id is not None else ()
        self.vocab_size: int = self._vocabulary.vocab_size
        self._template = (
            None
            if template is None
            else ChatTemplate(
                template, names, special_tokens=self._special, name=f"the chat template ({template_file})"
            )
        )
        self.token_bytes = self._vocabulary.token_bytes

    @classmethod
    def load(cls, directory: str | Path) -> "Tokenizer | None":
        """The tokenizer of a model's directory; None if it has none.

        Raises:
            TokenizerError: tokenizer.json or tokenizer_config.json is damaged.
            ChatTemplateError: the chat template does not compile.
        """
        directory = Path(directory)
        if not any(is_there(directory / name) for name in (TOKENIZER_FILE, SENTENCEPIECE_FILE)):
            return None
        path = directory / CONFIG_FILE
        config = read_json(path, TokenizerError) if is_there(path) else {}
        template, path = _read_template(directory, config)
        try:
            with panics_reported():
                return cls(directory, config, template, path.name)
        except ChatTemplateError as error:
            raise ChatTemplateError(f"{path}: {error}") from error
        except ModelError as error:
            raise TokenizerError(str(error)) from error
        except Exception as error:  # the libraries' own
            raise TokenizerError(f"{directory}: the tokenizer cannot be used ({error}); copy it again") from error

    def save(self, directory: Path) -> None:
        """Copy the tokenizer's files to another model's directory."""
        for name in FILES:
            if (self._directory / name).is_file() and directory.resolve() != self._directory.resolve():
                shutil.copyfile(self._directory / name, directory / name)

    @property
    def has_chat_template(self) -> bool:
        """Whether `apply_chat_template` can be used."""
        return self._template is not None

    @property
    def takes_tools(self) -> bool:
        """Whether the chat template can tell the model about tools."""
        return self._template is not None and self._template.uses_tools

    def has_text(self, token_id: int) -> bool:
        """Whether the token stands for text: known, and not special."""
        return 0 <= token_id < self.vocab_size and token_id not in self._names

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """The tokens of a user's text, after the begin token if the model wants one and `add_bos` asks for it."""
        return [*(self._prefix if add_bos else ()), *self._encode_plain(_well_formed(text))]

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of tokens; U+FFFD where they are not UTF-8. Unknown ids have none."""
        parts: list[bytes] = []
        previous: int | None = None
        for token_id in token_ids:
            if self.has_text(token_id):
                parts.append(self.token_bytes(token_id, previous))
                previous = token_id
            elif not skip_special_tokens and token_id in self._names:
                parts.append(self._names[token_id].encode())
        return b"".join(parts).decode("utf-8", "replace")

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[int]:
        """The tokens of a conversation, as the model's template writes it; options as in `ChatTemplate.render`.

        Only the template makes special tokens: those that a message or a tool spells stay text.

        Raises:
            ChatTemplateError: the model has no template, or it refuses these messages.
        """
        if self._template is None:
            raise ChatTemplateError("this model has no chat template: use plain completions")
        marked = self._template.render_marked(
            messages,
            tools=tools,
            options=options,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )
        return self._encode_written(split_marked(_well_formed(marked), self._pattern))

    def _encode_written(self, pieces: Sequence[str]) -> list[int]:
        """The tokens of what a template wrote: text, a special token, text, and so on."""
        if isinstance(self._vocabulary, TokenizerJson):
            text, written = "".join(pieces), [self._special[name] for name in pieces[1::2]]
            token_ids = self._vocabulary.encode_written(text)
            if self._controls(token_ids) == self._controls(written):
                return token_ids  # otherwise a message spells a special token, or what is normalized to one
        token_ids = []
        for place, piece in enumerate(pieces):
            if place % 2:
                token_ids.append(self._special[piece])
            else:
                around = (pieces[place - 1] if place else None, pieces[place + 1] if place + 1 < len(pieces) else None)
                token_ids += self._encode_plain(self._stripped(piece, *around), after_special=bool(token_ids))
        return token_ids

    def _controls(self, token_ids: Iterable[int]) -> list[int]:
        return [token_id for token_id in token_ids if token_id in self._control_ids]

    def _stripped(self, text: str, before: str | None, after: str | None) -> str:
        """The text without the white space that the special tokens around it take."""
        text = text.lstrip() if before in self._vocabulary.strips_right else text
        return text.rstrip() if after in self._vocabulary.strips_left else text

    def _encode_plain(self, text: str, *, after_special: bool = False) -> list[int]:
        token_ids = self._vocabulary.encode(text, after_special=after_special)
        if self._control_ids.isdisjoint(token_ids):
            return token_ids
        # The vocabulary itself spells a special token: cut the text inside each one, so that no token can.
        cuts = [match.start() + 1 for match in self._pattern.finditer(text)]
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        encoded = [self._vocabulary.encode(part) for part in parts]
        return [token_id for ids in encoded for token_id in ids if token_id not in self._control_ids]


def _well_formed(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which JSON can spell but UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_template(directory: Path, config: Mapping[str, Any]) -> tuple[str | None, Path]:
    """chat_template.jinja, else tokenizer_config.json's chat_template: one, or the one named "default" of several.

    Returns:
        The template, and the file that it is from.
    """
    path = directory / TEMPLATE_FILE
    if is_there(path):
        return read_text(path, ChatTemplateError), path
    path = directory / CONFIG_FILE
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise TokenizerError(f"{path}: chat_template must be a string, not {type(template).__name__}")
    return template, path


def _token_name(value: Any) -> str | None:
    """A special token's text; tokenizer_config.json has it plain or as {"content": ...}."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
