"""The C kernels' compilation: cached by what it depends on, safe when shared, and clear when it cannot be done."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from muxjax.pallas_kernels.cpu import build as build_module
from muxjax.pallas_kernels.cpu.build import BuildError, build, cache_directory

SMALL_LIBRARY = "int answer(void) { return 42; }\n"
REPORT = (
    "from muxjax.pallas_kernels.implementation import default_implementation as d; print(d().name, '|', d().reason)"
)


@pytest.fixture
def small_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Something that compiles at once in place of the kernels."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "small.c").write_text(SMALL_LIBRARY)
    monkeypatch.setattr(build_module, "SOURCE_DIRECTORY", source)
    build_module.source_digest.cache_clear()
    yield source
    build_module.source_digest.cache_clear()


def test_compiled_once(small_source: Path, tmp_path: Path) -> None:
    library = build(tmp_path / "cache")
    changed = library.stat().st_mtime_ns
    assert build(tmp_path / "cache") == library
    assert library.stat().st_mtime_ns == changed


def test_new_sources_make_a_new_library(small_source: Path, tmp_path: Path) -> None:
    library = build(tmp_path / "cache")
    (small_source / "small.c").write_text(SMALL_LIBRARY.replace("42", "43"))
    build_module.source_digest.cache_clear()
    assert build(tmp_path / "cache") != library


def test_built_by_several_at_once(small_source: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        libraries = set(threads.map(build, [tmp_path / "cache"] * 4))
    assert list((tmp_path / "cache").iterdir()) == list(libraries)


def test_error_of_the_compiler_is_told(small_source: Path, tmp_path: Path) -> None:
    (small_source / "small.c").write_text("int answer(void) { return fourty_two; }\n")
    with pytest.raises(BuildError, match=r"failed: .*small.c:1:\d+: error: .*fourty_two"):
        build(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_directory_that_cannot_be_written(small_source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"cannot write .*file/cache.*set XDG_CACHE_HOME"):
        build(tmp_path / "file" / "cache")


def test_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "muxjax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "muxjax"


def test_without_a_compiler_xla_runs_and_says_why(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", REPORT], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "xla | no C kernels: no C compiler found (tried cc, gcc, clang)"
