"""The committed protocol code is what `make protos` generates."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = Path("muxjax/serving/frontends/grpc")


def test_generated_files_are_up_to_date(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    protos = [str(FOLDER / name) for name in ("inference.proto", "error_details.proto")]
    outputs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    include = Path(sys.modules["grpc_tools"].__path__[0]) / "_proto"
    paths = [f"--proto_path={ROOT}", f"--proto_path={include}"]
    assert protoc.main(["protoc", *paths, *outputs, *protos]) == 0
    assert protoc.main(["protoc", *paths, f"--grpc_python_out={tmp_path}", protos[0]]) == 0
    generated = {path.name: path.read_text() for path in (tmp_path / FOLDER).iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / FOLDER).glob("*_pb2*") if path.is_file()}
    assert committed.keys() == generated.keys()
    assert committed == generated, "run `make protos` and commit the result"
