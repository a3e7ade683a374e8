import ast

import pytest

from muxjax.training import corpus
from muxjax.training.arithmetic import held_out_pairs, held_out_table, is_held_out_sum, sum_text, training_pairs
from tests.muxjax.training.tiny import rng


@pytest.fixture(scope="module")
def code() -> corpus.Split:
    return corpus.code_corpus()


@pytest.fixture(scope="module")
def prose() -> tuple[tuple[corpus.Passage, ...], tuple[corpus.Passage, ...]]:
    return corpus.prose_corpus()


def test_files_are_trained_on_or_held_out_never_both(code: corpus.Split) -> None:
    assert len(code.training) > 300
    assert 10 < len(code.held_out) < len(code.training) / 8
    assert set(code.training).isdisjoint(code.held_out)


def test_the_split_depends_on_the_name_alone() -> None:
    assert corpus.is_held_out("ast.py")
    assert not corpus.is_held_out("textwrap.py")


def test_documents_are_source(code: corpus.Split) -> None:
    ast.parse(code.held_out[0])


def test_passages_that_are_measured_are_never_trained_on(
    prose: tuple[tuple[corpus.Passage, ...], tuple[corpus.Passage, ...]],
) -> None:
    training, held_out = prose
    assert {passage.text for passage in training}.isdisjoint(passage.text for passage in held_out)
    assert len(held_out) > 300


def test_docstrings_are_found_under_their_names(
    prose: tuple[tuple[corpus.Passage, ...], tuple[corpus.Passage, ...]],
) -> None:
    texts = {passage.subject: passage.text for passage in prose[0]}
    assert texts["textwrap.dedent"].startswith("Remove any common leading whitespace")
    assert any(passage.subject == "" for passage in prose[0])


def test_a_python_without_its_source_is_a_clear_error(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    corpus._source_files.cache_clear()
    with pytest.raises(corpus.CorpusError, match="no source of the standard library"):
        corpus.code_corpus()
    corpus._source_files.cache_clear()


def test_held_out_sums_are_of_three_digits_and_never_trained_on() -> None:
    held_out = held_out_table()
    assert 0.05 < held_out[100:, 100:].mean() < 0.075
    assert not held_out[:100].any()
    pairs = training_pairs(5000, rng(), held_out)
    assert len(pairs) == 5000
    assert not any(is_held_out_sum(a, b) or is_held_out_sum(b, a) for a, b in pairs.tolist())
    assert all(is_held_out_sum(a, b) and min(a, b) >= 100 for a, b in held_out_pairs(500).tolist())


def test_sums_read_normally() -> None:
    assert sum_text(123, 456) == ("123+456=", "579")
