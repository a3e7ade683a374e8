"""docs/extending.md does what it says: its files, run in its order in an empty folder."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from muxjax.models import registry
from muxjax.serve.__main__ import main as serve

PAGE = Path(__file__).parents[2] / "docs/extending.md"
FILES = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, as the current one, which knows none of the page's architectures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_architectures", dict(registry._architectures))
    monkeypatch.delitem(sys.modules, "parallel", raising=False)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_architecture_is_short() -> None:
    assert len(FILES["parallel.py"].splitlines()) < 60


def test_the_page_trains_saves_and_serves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = runpy.run_path("train.py")
    assert float(trained["loss"]) < 0.2
    assert (folder / "counts/weights").is_dir()
    asked = runpy.run_path("ask.py")
    assert asked["counted"].token_ids == tuple((10 + step) % 50 for step in range(60))
    assert asked["continued"].text
    capsys.readouterr()
    assert serve(["serve.yaml", "--check"]) == 0
    assert "counts" in capsys.readouterr().out


def test_a_module_that_cannot_be_imported_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "serve.yaml").write_text("architectures: [paralel]\nllms: {code: demo:code}\n")
    assert serve(["serve.yaml", "--check"]) == 2
    assert "cannot import paralel: ModuleNotFoundError" in capsys.readouterr().err
