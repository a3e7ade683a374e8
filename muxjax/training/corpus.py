"""Text that every Python installation carries: the standard library's source and its documentation."""

import ast
import importlib
import io
import sysconfig
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from inspect import cleandoc
from pathlib import Path

HELD_OUT_ONE_IN = 16
# Tests and generated tables: either would make the figures depend on what a distribution strips, or flatter them.
EXCLUDED_FOLDERS = frozenset(
    {"site-packages", "test", "tests", "idle_test", "lib2to3", "encodings", "pydoc_data", "__pycache__"}
)


class CorpusError(Exception):
    """The running Python does not carry the text that a corpus is made of."""


@dataclass(frozen=True, slots=True)
class Split:
    """Documents to train on, and documents that are only ever measured on."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of documentation: what it is about (a dotted name, or "" for a comment) and what it says."""

    subject: str
    text: str


def is_held_out(key: str) -> bool:
    """Whether the document, sum or file of this name is held out: fixed by its hash, the same on every machine."""
    return int.from_bytes(sha256(key.encode()).digest()[:8]) % HELD_OUT_ONE_IN == 0


def code_corpus() -> Split:
    """The standard library's source, one document a file."""
    return Split(
        tuple(text for path, text in _source_files() if not is_held_out(path)),
        tuple(text for path, text in _source_files() if is_held_out(path)),
    )


def prose_corpus() -> tuple[tuple[Passage, ...], tuple[Passage, ...]]:
    """Docstrings, block comments and the interactive help's topics: (training, held-out) passages.

    A file's passages are held out together, by the same rule as its source, and a passage that also stands in a
    held-out file (docstrings get copied) is not trained on.
    """
    held_out = held_out_passages()
    measured = {passage.text for passage in held_out}
    training = _prose(lambda key: not is_held_out(key))
    return tuple(passage for passage in training if passage.text not in measured), held_out


def held_out_passages() -> tuple[Passage, ...]:
    """The passages that are only ever measured on, without reading the others."""
    return _prose(is_held_out)


def _prose(wanted: Callable[[str], bool]) -> tuple[Passage, ...]:
    """The different passages of the files and topics whose names are wanted."""
    passages: dict[Passage, None] = {}
    for path, text in _source_files():
        if wanted(path):
            passages |= dict.fromkeys(_passages(path, text))
    topics = (Passage(topic, text) for topic, text in _help_topics().items() if wanted(topic))
    return tuple(passages | dict.fromkeys(topics))


@cache
def _source_files() -> tuple[tuple[str, str], ...]:
    """(relative path, text) of every source file of the standard library that a corpus may use, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if EXCLUDED_FOLDERS.isdisjoint(relative.parts) and not relative.name.startswith("_sysconfigdata"):
            text = _read_source(path)
            if text:
                files.append((relative.as_posix(), text))
    if not files:
        raise CorpusError(
            f"{root}: no source of the standard library here; train with a Python that carries its .py files"
        )
    return tuple(files)


def _read_source(path: Path) -> str:
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError):  # a few files carry broken encodings on purpose
        return ""


def _help_topics() -> dict[str, str]:
    try:
        module = importlib.import_module("pydoc_data.topics")
    except ImportError as error:
        raise CorpusError("pydoc_data.topics is missing from this Python: install its full standard library") from error
    return {topic: cleandoc(text) for topic, text in module.topics.items()}


def _passages(path: str, source: str) -> Iterator[Passage]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    yield from _docstrings(tree, module)
    yield from _block_comments(source)


def _docstrings(node: ast.AST, name: str) -> Iterator[Passage]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text and len(text) > 20:
            yield Passage(name, text)
        for child in node.body:
            child_name = getattr(child, "name", None)
            if child_name is not None:
                yield from _docstrings(child, f"{name}.{child_name}")


def _block_comments(source: str) -> Iterator[Passage]:
    """Comments of at least two whole lines, without their marks."""
    block: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            block.append(token.string.lstrip("#").removeprefix(" ").rstrip())
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            if len(block) > 1:
                yield Passage("", "\n".join(block).strip())
            block = []
