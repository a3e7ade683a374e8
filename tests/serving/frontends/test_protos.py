"""The committed protocol code is what `make protos` generates."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GRPC = Path("muxjax/serving/frontends/grpc")
OIP = Path("muxjax/serving/frontends/oip")


def generate(folder: Path, names: Sequence[str], to: Path, *kinds: str) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    include = Path(sys.modules["grpc_tools"].__path__[0]) / "_proto"
    paths = [f"--proto_path={ROOT}", f"--proto_path={include}"]
    outputs = [f"--{kind}_out={to}" for kind in kinds]
    assert protoc.main(["protoc", *paths, *outputs, *(str(folder / name) for name in names)]) == 0


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*_pb2*") if path.is_file()}


def test_generated_files_are_up_to_date(tmp_path: Path) -> None:
    generate(GRPC, ("inference.proto", "admin.proto", "error_details.proto"), tmp_path, "python", "pyi")
    generate(GRPC, ("inference.proto", "admin.proto"), tmp_path, "grpc_python")
    assert contents(ROOT / GRPC) == contents(tmp_path / GRPC), "run `make protos` and commit the result"


def test_the_open_inference_protocols_generated_files_keep_to_a_pool_of_their_own(tmp_path: Path) -> None:
    generate(OIP, ("open_inference.proto",), tmp_path, "python", "pyi")
    generated = contents(tmp_path / OIP)
    module = generated["open_inference_pb2.py"]
    assert module.count("_descriptor_pool.Default()") == 1
    generated["open_inference_pb2.py"] = module.replace(
        "_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"
    )
    assert contents(ROOT / OIP) == generated, "run `make protos` and commit the result"
