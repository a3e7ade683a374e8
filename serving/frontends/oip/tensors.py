"""Tensors of the protocol, to and from plain values. Lengths are checked before anything is read."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from muxjax.serving.checks import shown
from muxjax.serving.errors import InvalidRequest
from muxjax.serving.frontends.oip import open_inference_pb2 as pb

MAX_DIMENSIONS = 8

type Value = bool | int | float | str

_LENGTH = struct.Struct("<I")  # before each element of a raw BYTES tensor


@dataclass(frozen=True, slots=True)
class _Datatype:
    """How elements are sent: `raw` is NumPy's name of their bytes, `contents` the typed field."""

    raw: str
    contents: str | None


_DATATYPES: Mapping[str, _Datatype] = {
    "BOOL": _Datatype("?", "bool_contents"),
    "INT8": _Datatype("<i1", "int_contents"),
    "INT16": _Datatype("<i2", "int_contents"),
    "INT32": _Datatype("<i4", "int_contents"),
    "INT64": _Datatype("<i8", "int64_contents"),
    "UINT8": _Datatype("<u1", "uint_contents"),
    "UINT16": _Datatype("<u2", "uint_contents"),
    "UINT32": _Datatype("<u4", "uint_contents"),
    "UINT64": _Datatype("<u8", "uint64_contents"),
    "FP16": _Datatype("<f2", None),
    "FP32": _Datatype("<f4", "fp32_contents"),
    "FP64": _Datatype("<f8", "fp64_contents"),
    "BYTES": _Datatype("", "bytes_contents"),
}


def read_inputs(request: pb.ModelInferRequest) -> dict[str, tuple[str, list[Value]]]:
    """Each input's datatype and elements, row by row, by its name.

    Raises:
        InvalidRequest: naming the input.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(
            "raw_input_contents", f"has {len(raw)} entries for {len(request.inputs)} inputs: send one for each"
        )
    values: dict[str, tuple[str, list[Value]]] = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.name in values:
            raise InvalidRequest(tensor.name, "is sent twice")
        values[tensor.name] = tensor.datatype, _elements(tensor, raw[index] if raw else None)
    return values


def _elements(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> list[Value]:
    name = tensor.name
    datatype = _DATATYPES.get(tensor.datatype)
    if datatype is None:
        raise InvalidRequest(name, f"has the datatype {shown(tensor.datatype)}; known are {', '.join(_DATATYPES)}")
    if "shared_memory_region" in tensor.parameters:
        raise InvalidRequest(name, "lies in shared memory, which this server does not read: send it in the message")
    count = _count(name, tensor.shape)
    if raw is not None:
        if tensor.HasField("contents"):
            raise InvalidRequest(name, "is sent both raw and typed: send it once")
        return _text(name, _split(name, raw, count)) if tensor.datatype == "BYTES" else _raw(name, raw, datatype, count)
    if datatype.contents is None:
        raise InvalidRequest(name, f"is {tensor.datatype}, which has no typed contents: send it raw")
    contents = getattr(tensor.contents, datatype.contents)
    if len(contents) != count:
        raise InvalidRequest(name, f"has {len(contents)} elements in {datatype.contents}; its shape says {count}")
    return _text(name, contents) if tensor.datatype == "BYTES" else list(contents)


def _count(name: str, shape: Sequence[int]) -> int:
    """Elements of a tensor; a shape of no dimensions is one element."""
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise InvalidRequest(name, f"has a shape that cannot be: {shown(list(shape[: MAX_DIMENSIONS + 1]))}")
    return math.prod(shape)


def _raw(name: str, raw: bytes, datatype: _Datatype, count: int) -> list[Value]:
    size = np.dtype(datatype.raw).itemsize
    if len(raw) != count * size:
        raise InvalidRequest(name, f"has {len(raw)} bytes; its shape and datatype make {shown(count * size)}")
    return np.frombuffer(raw, datatype.raw).tolist()


def _split(name: str, raw: bytes, count: int) -> list[bytes]:
    """The elements of a raw BYTES tensor."""
    elements: list[bytes] = []
    offset = 0
    while offset < len(raw):
        if len(elements) == count or offset + _LENGTH.size > len(raw):
            break
        (length,) = _LENGTH.unpack_from(raw, offset)
        offset += _LENGTH.size
        if offset + length > len(raw):
            raise InvalidRequest(name, f"is cut off: an element of {length} bytes has {len(raw) - offset}")
        elements.append(raw[offset : offset + length])
        offset += length
    if offset != len(raw) or len(elements) != count:
        raise InvalidRequest(name, f"does not hold the {shown(count)} elements of its shape, and nothing else")
    return elements


def _text(name: str, elements: Sequence[bytes]) -> list[Value]:
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError as error:
        raise InvalidRequest(name, f"is not UTF-8 text (byte {error.start})") from None


def raw_text(texts: Sequence[str]) -> bytes:
    """A BYTES tensor's raw contents."""
    return b"".join(_LENGTH.pack(len(data)) + data for data in (text.encode() for text in texts))


def raw_numbers(datatype: str, numbers: Sequence[float]) -> bytes:
    """A numeric tensor's raw contents."""
    return np.asarray(numbers, _DATATYPES[datatype].raw).tobytes()
