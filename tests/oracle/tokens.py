"""Ask Hugging Face transformers for the tokens of the texts and conversations of tests/oracle/vocabularies.py.

.venv-oracle/bin/python -m tests.oracle.tokens            # rewrites tests/oracle/golden_tokens.json
.venv-oracle/bin/python -m tests.oracle.tokens --output FILE
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tests.oracle.vocabularies import CHATS, KINDS, TEXTS, write

GOLDEN = Path(__file__).parent / "golden_tokens.json"


def tokens(directory: Path) -> dict[str, Any]:
    """What transformers makes of everything, with the tokenizer of one model's directory."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    plainly = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    texts = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    return {
        "texts": texts,
        "decoded": [tokenizer.decode(token_ids, **plainly) for token_ids in texts],
        "chats": [tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False) for chat in CHATS],
    }


def main() -> None:
    """Write all tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=GOLDEN)
    output: Path = parser.parse_args().output
    found = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as directory:
            write(kind, Path(directory))
            found[kind] = tokens(Path(directory))
    output.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
