"""Ask Hugging Face transformers how it renders the templates and conversations of tests/oracle/templates.py.

.venv-oracle/bin/python -m tests.oracle.render            # rewrites tests/oracle/golden_templates.json
.venv-oracle/bin/python -m tests.oracle.render --output FILE
"""

import argparse
import json
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from tests.oracle.templates import CONVERSATIONS, SPECIALS, TEMPLATES

GOLDEN = Path(__file__).parent / "golden_templates.json"


def render(template: str, conversation: dict[str, Any]) -> str | None:
    """The rendering; None if the template cannot, or will not."""
    options = {name: value for name, value in conversation.items() if name != "messages"}
    try:
        rendered, _ = render_jinja_template([conversation["messages"]], chat_template=template, **options, **SPECIALS)
    except Exception:  # a template is a program: it may fail in any way
        return None
    return str(rendered[0])


def main() -> None:
    """Write all renderings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=GOLDEN)
    renderings = {
        name: {called: render(template, conversation) for called, conversation in CONVERSATIONS.items()}
        for name, template in TEMPLATES.items()
    }
    output: Path = parser.parse_args().output
    output.write_text(json.dumps(renderings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
