"""safetensors files: a JSON header, then the tensors' bytes, each read from its place when it is wanted.

Layout: 8 bytes little-endian length of the header; the header, {"name": {"dtype": "BF16", "shape": [2, 3],
"data_offsets": [begin, end]}, ...} with offsets from the header's end; the data, without holes.
"""

import json
import math
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from muxjax.models.errors import CheckpointError

MAX_HEADER_BYTES = 20_000_000  # 150,000 tensors; the format's limit, five times that, takes half a minute to read
MAX_NAME = 1000  # characters
DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(scalar)
    for name, scalar in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
    }.items()
}
"""What a file may hold; which of these a weight may have is for the reader of the weights to say."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that lies in a file.

    Read, and not mapped: a file that shrinks or fails meanwhile is then an error, and does not end the process.
    """

    path: Path
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int  # of its first byte in the file

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """The tensor, or rows `begin` to `end` of its first axis. Raises CheckpointError."""
        shape = self.shape if end is None else (end - begin, *self.shape[1:])
        rows = np.empty(shape, self.dtype)
        skipped = begin * math.prod(self.shape[1:]) * self.dtype.itemsize
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + skipped)
                left = memoryview(rows.reshape(-1).view(np.uint8))
                while left and (count := file.readinto(left)):
                    left = left[count:]
        except OSError as error:
            raise CheckpointError(f"{self.path}: tensor {self.name} cannot be read: {error}") from error
        if left:
            raise CheckpointError(f"{self.path}: tensor {self.name} ends too early; the file was cut while it was read")
        return rows


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file, of which only the header is read.

    Raises:
        CheckpointError: the file cannot be read, is truncated, or its header is not a valid one.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise CheckpointError("is not a file")
        with path.open("rb") as file:
            header, start = _read_header(file, status.st_size)
        return _tensors(path, header, start, status.st_size - start)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], make: Callable[[str], np.ndarray]
) -> None:
    """Write one file; each tensor is made when its turn comes, and none is kept. Raises OSError."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # which transformers asks for
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": names[dtype], "shape": shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in tensors:
            file.write(np.ascontiguousarray(make(name)).reshape(-1).view(np.uint8))


def _read_header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header, without its metadata, and where the tensors' bytes start."""
    if size < 8:
        raise CheckpointError(f"has {size} bytes and no header; it is truncated or not a safetensors file")
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise CheckpointError(
            f"announces a header of {length} bytes in a file of {size}; it is truncated or not a safetensors file"
        )
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise CheckpointError("the header is not a JSON object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON takes the last of several entries of one name; a checkpoint must not have any."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise CheckpointError(f"the header names {name!r:.200} twice")
    return entries


def _tensors(path: Path, header: Mapping[str, Any], start: int, size: int) -> dict[str, StoredTensor]:
    tensors, spans = {}, []
    for name, entry in header.items():
        if not (0 < len(name) <= MAX_NAME and name.isprintable()):  # errors will show it, on people's terminals
            raise CheckpointError(f"{name!r:.200} is no name of a tensor")
        dtype, shape, begin, end = _parse_entry(name, entry)
        if end > size:
            raise CheckpointError(f"tensor {name} ends at byte {end} of {size}; the file is truncated")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise CheckpointError(f"tensor {name}: {end - begin} bytes do not hold {dtype.name}{list(shape)}")
        if math.prod(max(length, 1) for length in shape) >= 2**62:
            raise CheckpointError(f"tensor {name} has shape {list(shape)}, which is larger than any memory")
        tensors[name] = StoredTensor(path, name, dtype, shape, start + begin)
        spans.append((begin, end, name))
    _check_no_overlap(sorted(spans), size)
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
    if dtype_name not in DTYPES:
        raise CheckpointError(f"tensor {name} has dtype {dtype_name!r:.30}, which is none of {', '.join(DTYPES)}")
    return DTYPES[dtype_name], tuple(shape), begin, end


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
