"""Chat templates in the styles of the common families are rendered as Hugging Face transformers renders them.

Always against golden files; against transformers itself where an interpreter with it is at hand.
"""

import inspect
import json
import subprocess
from pathlib import Path

import pytest

from muxjax.models.chat import ChatTemplate, ChatTemplateError
from tests.models.test_parity import ROOT, oracle_python
from tests.oracle.templates import CONVERSATIONS, SPECIALS, TEMPLATES

GOLDEN = ROOT / "tests/oracle/golden_templates.json"
PARAMETERS = inspect.signature(ChatTemplate.render).parameters
CASES = [(template, conversation) for template in TEMPLATES for conversation in CONVERSATIONS]


def rendered(template: str, conversation: str) -> str | None:
    """What transformers' renderings are compared with; None if the template cannot, or will not."""
    given = CONVERSATIONS[conversation]
    options = {name: value for name, value in given.items() if name not in PARAMETERS}
    named = {name: value for name, value in given.items() if name in PARAMETERS}
    try:
        return ChatTemplate(TEMPLATES[template], SPECIALS).render(**named, options=options)
    except ChatTemplateError:
        return None


@pytest.mark.parametrize(("template", "conversation"), CASES)
def test_golden(template: str, conversation: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[template][conversation]
    ours = rendered(template, conversation)
    if template == "the_date":  # but for the first line, which says today's
        golden, ours = (text and text.partition(". ")[2] for text in (golden, ours))
    assert ours == golden


def test_every_template_renders_some_and_some_refuse() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert all(any(text is not None for text in texts.values()) for texts in golden.values())
    assert any(text is None for texts in golden.values() for text in texts.values())


def test_live(tmp_path: Path) -> None:
    python = oracle_python()
    if python is None:
        pytest.skip("no interpreter with PyTorch and transformers: `make oracle` makes one")
    output = tmp_path / "renderings.json"
    subprocess.run([python, "-m", "tests.oracle.render", "--output", output], cwd=ROOT, check=True, timeout=300)
    theirs = json.loads(output.read_text(encoding="utf-8"))
    ours = {template: {name: rendered(template, name) for name in CONVERSATIONS} for template in TEMPLATES}
    assert ours == theirs
