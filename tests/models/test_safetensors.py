"""Reading safetensors: what the reference library writes, and files that are not what they should be."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from muxjax.models.errors import CheckpointError
from muxjax.models.safetensors import read_safetensors


def write(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + data)
    return path


def entry(begin: int, end: int, shape: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_reads_what_the_reference_library_writes(tmp_path: Path, dtype: Any) -> None:
    tensors = {
        "matrix": np.arange(15).reshape(3, 5).astype(dtype),
        "scalar": np.asarray(7).astype(dtype),
        "empty": np.zeros((0, 4), dtype),
    }
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "np"})
    read = read_safetensors(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == dtype
        np.testing.assert_array_equal(read[name].read(), tensor)
    np.testing.assert_array_equal(read["matrix"].read(1, 3), tensors["matrix"][1:3])


def test_reads_a_header_that_leaves_tensors_unaligned(tmp_path: Path) -> None:
    header = json.dumps({"a": entry(0, 8, [2])}).encode()
    header += b" " * ((3 - len(header)) % 8)
    path = write(tmp_path / "a.safetensors", header, np.asarray([1.5, -2], np.float32).tobytes())
    np.testing.assert_array_equal(read_safetensors(path)["a"].read(), [1.5, -2])


TWO = {"a": entry(0, 8, [2]), "b": entry(8, 16, [2])}

DAMAGED = {
    "empty file": (b"", "has 0 bytes and no header"),
    "shorter than a length": (b"\x01\x00", "truncated"),
    "header longer than the file": (struct.pack("<Q", 1000) + b"{}", "announces a header of 1000 bytes"),
    "absurd header size": (struct.pack("<Q", 2**63) + b"{}", "announces a header"),
    "header is not JSON": (struct.pack("<Q", 4) + b"{{{{", "not JSON"),
    "header is not UTF-8": (struct.pack("<Q", 4) + b'"\xff\xff"', "not JSON: 'utf-8' codec"),
    "header nests for ever": (struct.pack("<Q", 100_000) + b"[" * 100_000, "not JSON"),
    "a tensor is named twice": (struct.pack("<Q", 13) + b'{"a":1,"a":2}', "the header names 'a' twice"),
    "header is a list": (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_refuses_a_damaged_file(tmp_path: Path, case: str) -> None:
    content, message = DAMAGED[case]
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value)


WRONG_HEADERS = {
    "truncated": (TWO, 12, "tensor b ends at byte 16 of 12; the file is truncated"),
    "trailing bytes": (TWO, 20, "4 bytes at the end belong to no tensor"),
    "overlap": ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, 12, "a and b overlap at byte 4"),
    "same bytes twice": ({"a": entry(0, 8, [2]), "b": entry(0, 8, [2])}, 8, "overlap"),
    "hole": ({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, 20, "4 bytes before tensor b"),
    "size and shape differ": ({"a": entry(0, 8, [3])}, 8, r"8 bytes do not hold float32\[3\]"),
    "huge shape": ({"a": entry(0, 8, [2**61, 2**61])}, 8, "do not hold"),
    "empty and huge": ({"a": entry(0, 0, [0, 2**40, 2**40])}, 0, "tensor a has shape"),
    "larger than any machine": ({"a": entry(0, 0, [0, 2**70])}, 0, "malformed"),
    "negative size": ({"a": entry(0, 8, [-2])}, 8, "malformed"),
    "fractional size": ({"a": entry(0, 8, [2.0])}, 8, "malformed"),
    "backwards": ({"a": entry(8, 0, [2])}, 8, "malformed"),
    "three offsets": ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, 8, "malformed"),
    "no dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, 8, "malformed"),
    "not an object": ({"a": 3}, 8, "malformed"),
    "unknown dtype": ({"a": entry(0, 8, [1], "F128")}, 8, "tensor a has dtype 'F128', which is none of F64, F32"),
    "dtype is a list": ({"a": entry(0, 8, [2], ["F32"])}, 8, "malformed"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", WRONG_HEADERS)
def test_refuses_a_header_that_does_not_describe_the_data(tmp_path: Path, case: str) -> None:
    header, size, message = WRONG_HEADERS[case]
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(write(tmp_path / "a.safetensors", header, bytes(size)))


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: cannot be read"):
        read_safetensors(tmp_path / "gone.safetensors")


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")  # opening it would wait for ever
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(CheckpointError, match=f"{name}.safetensors: is not a file"):
            read_safetensors(tmp_path / f"{name}.safetensors")


def test_names_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").symlink_to("b.safetensors")
    (tmp_path / "b.safetensors").symlink_to("a.safetensors")
    with pytest.raises(CheckpointError, match=r"a\.safetensors: cannot be read: .*symbolic links"):
        read_safetensors(tmp_path / "a.safetensors")


def test_a_file_that_shrinks_after_its_header_was_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": np.ones(1000, np.float32)}, path)
    tensor = read_safetensors(path)["a"]
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: tensor a ends too early"):
        tensor.read()
