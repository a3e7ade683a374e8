"""Reading safetensors files: a JSON header, then the tensors' bytes, which are mapped and not copied.

Layout: 8 bytes little-endian length of the header; the header, {"name": {"dtype": "BF16", "shape": [2, 3],
"data_offsets": [begin, end]}, ...} with offsets from the header's end; the data, without holes.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from muxjax.models.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of one file, as views of the mapped file.

    Raises:
        CheckpointError: the file cannot be read, is truncated, or its header is not a valid one.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:  # ValueError: the file is empty
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    try:
        header, start = _read_header(data)
        return _views(header, data[start:])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read_header(data: np.ndarray) -> tuple[dict[str, Any], int]:
    """The header, without its metadata, and where the tensors' bytes start."""
    if data.size < 8:
        raise CheckpointError(f"has {data.size} bytes and no header; it is truncated or not a safetensors file")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(MAX_HEADER_BYTES, data.size - 8):
        raise CheckpointError(
            f"announces a header of {length} bytes in a file of {data.size}; it is truncated or not a safetensors file"
        )
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise CheckpointError("the header is not a JSON object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _views(header: Mapping[str, Any], data: np.ndarray) -> dict[str, np.ndarray]:
    tensors, spans = {}, []
    for name, entry in header.items():
        dtype, shape, begin, end = _parse_entry(name, entry)
        if end > data.size:
            raise CheckpointError(f"tensor {name} ends at byte {end} of {data.size}; the file is truncated")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise CheckpointError(f"tensor {name}: {end - begin} bytes do not hold {dtype.name}{list(shape)}")
        try:
            tensors[name] = data[begin:end].view(dtype).reshape(shape)
        except ValueError as error:  # an empty tensor whose other axes are absurd
            raise CheckpointError(f"tensor {name} has shape {list(shape)}: {error}") from None
        spans.append((begin, end, name))
    _check_no_overlap(sorted(spans), data.size)
    return tensors


def _parse_entry(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    try:
        dtype_name, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        types_fit = isinstance(dtype_name, str) and isinstance(shape, list)
        valid = types_fit and all(type(n) is int and 0 <= n < 2**62 for n in (*shape, begin, end)) and begin <= end
    except (TypeError, KeyError, ValueError):
        valid = False
    if not valid:
        raise CheckpointError(f"tensor {name}: malformed header entry {entry!r:.200}")
    if dtype_name not in _DTYPES:
        raise CheckpointError(f"tensor {name} has dtype {dtype_name}; supported are {', '.join(_DTYPES)}")
    return _DTYPES[dtype_name], tuple(shape), begin, end


def _check_no_overlap(spans: list[tuple[int, int, str]], size: int) -> None:
    previous_end, previous = 0, "the header"
    for begin, end, name in spans:
        if begin < previous_end:
            raise CheckpointError(f"tensors {previous} and {name} overlap at byte {begin}")
        if begin > previous_end:
            raise CheckpointError(f"{begin - previous_end} bytes before tensor {name} belong to no tensor")
        previous_end, previous = end, name
    if previous_end != size:
        raise CheckpointError(f"{size - previous_end} bytes at the end belong to no tensor")
