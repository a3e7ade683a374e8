"""Imports run one way, and what must run without JAX does."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("models", "pallas_kernels", "placement", "serving")
# What each folder may import of the project, beside itself.
ALLOWED = {
    "pallas_kernels": set(),
    "placement": set(),
    "models": {"pallas_kernels"},
    "serving": {"models", "pallas_kernels", "placement"},
}
WITHOUT_JAX = ("serving/scheduler", "serving/pool.py", "serving/simulation", "placement")
ABSENT_WITHOUT_JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}


def python_files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")))


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write muxjax...."
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_is_below_it(folder):
    forbidden = {f"muxjax.{other}" for other in FOLDERS if other != folder} - {f"muxjax.{o}" for o in ALLOWED[folder]}
    for path in python_files(folder):
        for module in imported_modules(path):
            parts = module.split(".")
            assert parts[0] not in FOLDERS, f"{path} imports {module}: write muxjax.{module}"
            assert ".".join(parts[:2]) not in forbidden, f"{path} imports {module}"
            if parts[0] == "muxjax" and len(parts) > 1:
                assert parts[1] in FOLDERS, f"{path} imports {module}: commands and configuration are above it"


def test_the_package_reaches_the_folders_by_relative_links():
    for folder in FOLDERS:
        link = ROOT / "muxjax" / folder
        assert link.is_symlink()
        assert str(link.readlink()) == f"../{folder}"


def test_pool_scheduler_and_placement_run_without_jax():
    names = [
        ".".join(("muxjax", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(ROOT.joinpath("serving").rglob("*.py")) + python_files("placement")
        if str(path.relative_to(ROOT)).startswith(WITHOUT_JAX)
    ]
    program = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        f"print(sorted({ABSENT_WITHOUT_JAX} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_client_starts_without_jax():
    program = "import sys, muxjax.client.__main__\nprint(sorted(set(sys.modules) & {'jax', 'flax'}))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
