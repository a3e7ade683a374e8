"""Tokenizers of the published kinds give the tokens that Hugging Face transformers gives, and their text.

Always against golden files; against transformers itself where an interpreter with it is at hand.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from muxjax.models.detokenizer import Detokenizer
from muxjax.models.tokenizer import Tokenizer
from muxjax.models.tokenizer_json import TokenizerJson
from tests.models.test_parity import ROOT, oracle_python
from tests.oracle.vocabularies import CHATS, KINDS, TEXTS, write

GOLDEN = json.loads((ROOT / "tests/oracle/golden_tokens.json").read_text(encoding="utf-8"))


def load(kind: str, directory: Path) -> Tokenizer:
    write(kind, directory)
    tokenizer = Tokenizer.load(directory)
    assert tokenizer is not None
    return tokenizer


def tokens(tokenizer: Tokenizer) -> dict[str, Any]:
    """What transformers' tokens are compared with."""
    texts = [tokenizer.encode(text, add_bos=False) for text in TEXTS]
    return {
        "texts": texts,
        "decoded": [tokenizer.decode(token_ids) for token_ids in texts],
        "chats": [tokenizer.apply_chat_template(chat, add_generation_prompt=False) for chat in CHATS],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_golden(kind: str, tmp_path: Path) -> None:
    assert tokens(load(kind, tmp_path)) == GOLDEN[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_streams_join_to_the_text_wherever_they_are_cut(kind: str, tmp_path: Path) -> None:
    tokenizer = load(kind, tmp_path)
    for token_ids in GOLDEN[kind]["texts"]:
        whole = tokenizer.decode(token_ids)
        for cut in range(len(token_ids) + 1):
            detokenizer = Detokenizer(tokenizer)
            parts = [detokenizer.push(token_ids[:cut]), detokenizer.push(token_ids[cut:]), detokenizer.finish()]
            assert "".join(parts) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_piece_by_piece_as_beside_spelled_special_tokens_they_are_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenizerJson, "encode_written", lambda self, text: [])  # which misses the template's
    assert tokens(load(kind, tmp_path))["chats"] == GOLDEN[kind]["chats"]


def test_live(tmp_path: Path) -> None:
    python = oracle_python()
    if python is None:
        pytest.skip("no interpreter with PyTorch and transformers: `make oracle` makes one")
    output = tmp_path / "tokens.json"
    subprocess.run([python, "-m", "tests.oracle.tokens", "--output", output], cwd=ROOT, check=True, timeout=300)
    theirs = json.loads(output.read_text(encoding="utf-8"))
    assert {kind: tokens(load(kind, tmp_path / kind)) for kind in KINDS} == theirs
