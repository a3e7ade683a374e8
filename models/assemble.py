"""From a checkpoint's tensors to a module's parameters, piece by piece.

Tensors are read in blocks of rows and written, converted and turned, to where they belong: beside the parameters
themselves, memory is needed for a block a thread.
"""

import math
import mmap
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
from jax.sharding import SingleDeviceSharding

from muxjax.models.errors import CheckpointError
from muxjax.models.quantization import Int8Weights
from muxjax.models.safetensors import StoredTensor
from muxjax.models.weights import Fit, Index, Skeleton, Slots, TensorSlot, check_fit, listed

WEIGHT_DTYPES = tuple(np.dtype(scalar) for scalar in (np.float32, np.float16, ml_dtypes.bfloat16))
_BLOCK_BYTES = 1 << 20  # stays in a core's cache while it is converted and turned


def assemble(
    tensors: Mapping[str, StoredTensor], slots: Slots, skeleton: Skeleton, fit: Fit
) -> dict[str, jax.Array | Int8Weights]:
    """The module's parameters, each on its device or devices as soon as its own tensors are read.

    Raises:
        CheckpointError: the tensors are not those that the slots describe (the message lists all that are wrong), or
            cannot be read.
    """
    check_fit({name: t.shape for name, t in tensors.items()}, {name: slot.shape for name, slot in slots.items()})
    _check_dtypes(tensors.values())
    pieces = _pieces(tensors, slots, skeleton)

    def make(name: str) -> jax.Array | Int8Weights:
        return fit(name, _make_array(skeleton.leaves[name], pieces[name]))

    names = sorted(pieces, key=lambda name: math.prod(skeleton.leaves[name].shape), reverse=True)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="read") as threads:
        try:
            return dict(zip(names, threads.map(make, names), strict=True))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


class _Piece(NamedTuple):
    """A tensor of the checkpoint, or a part of it, and its place in one parameter."""

    tensor: StoredTensor
    cut: tuple[slice, ...]  # what of the tensor; the whole if empty
    slot: TensorSlot

    @property
    def rows_before(self) -> int:
        """Rows of the tensor before the part."""
        return int(self.cut[0].start or 0) if self.cut else 0


def _pieces(tensors: Mapping[str, StoredTensor], slots: Slots, skeleton: Skeleton) -> dict[str, list[_Piece]]:
    """What each parameter is made of."""
    pieces: dict[str, list[_Piece]] = {name: [] for name in skeleton.leaves}
    for name, whole in slots.items():
        for part, cut in zip(whole.parts, whole.cuts, strict=True):
            slot = skeleton.find(part)
            pieces[slot.leaf].append(_Piece(tensors[name], cut, slot))
    sizes = {name: sum(math.prod(piece.slot.shape) for piece in made_of) for name, made_of in pieces.items()}
    if partly := [name for name, leaf in skeleton.leaves.items() if sizes[name] != leaf.size]:
        raise CheckpointError(f"the architecture's slots do not fill {', '.join(partly)}: this is a bug in it")
    return pieces


def _check_dtypes(tensors: Iterable[StoredTensor]) -> None:
    if wrong := [f"{tensor.name} has dtype {tensor.dtype}" for tensor in tensors if tensor.dtype not in WEIGHT_DTYPES]:
        supported = ", ".join(dtype.name for dtype in WEIGHT_DTYPES)
        raise CheckpointError(f"weights must be of {supported}:{listed(wrong)}")


def _make_array(leaf: jax.ShapeDtypeStruct, pieces: list[_Piece]) -> jax.Array:
    def read_shard(index: tuple[slice, ...] | None) -> np.ndarray:
        cuts = tuple(slice(*cut.indices(size)) for cut, size in zip(index or (), leaf.shape, strict=True))
        shard = _empty(tuple(cut.stop - cut.start for cut in cuts), leaf.dtype)
        for piece in pieces:
            overlap = _overlap(piece.slot.index, leaf.shape, cuts)
            if overlap is not None:
                _read_piece(piece, overlap, shard)
        return shard

    sharding = leaf.sharding or SingleDeviceSharding(jax.devices()[0])
    return jax.make_array_from_callback(leaf.shape, sharding, read_shard, dtype=leaf.dtype)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array of its own pages, which JAX need not copy on a CPU; of large ones, where the system has them."""
    count = math.prod(shape)
    pages = mmap.mmap(-1, max(count * dtype.itemsize, 1))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)  # half of the time would else go into making small ones
    return np.frombuffer(pages, dtype, count).reshape(shape)


def _read_piece(piece: _Piece, overlap: "_Overlap", shard: np.ndarray) -> None:
    """Fill what a shard has of a piece, in blocks of the tensor's rows."""
    tensor, slot = piece.tensor, piece.slot
    target, shape, wanted = shard[overlap.target], overlap.shape, overlap.wanted
    axis = _row_axis(slot, shape)
    if axis is None:
        target[...] = _turned(tensor.read()[piece.cut], slot, shape)[wanted]
        return
    rows = slot.shape[0] // shape[axis]  # of the tensor, for one step along the axis
    step = max(1, _BLOCK_BYTES * tensor.shape[0] // (tensor.nbytes * rows))
    for begin in range(wanted[axis].start, wanted[axis].stop, step):
        end = min(begin + step, wanted[axis].stop)
        block = tensor.read(piece.rows_before + begin * rows, piece.rows_before + end * rows)
        # Converted first: along the rows that is many times faster than across them.
        block = block[(slice(None), *piece.cut[1:])].astype(shard.dtype, copy=False)
        turned = _turned(block, slot, (*shape[:axis], end - begin, *shape[axis + 1 :]))
        done = slice(begin - wanted[axis].start, end - wanted[axis].start)
        target[(slice(None),) * axis + (done,)] = turned[(*wanted[:axis], slice(None), *wanted[axis + 1 :])]


class _Overlap(NamedTuple):
    """What leaf[index] and leaf[cuts] share."""

    target: tuple[int | slice | EllipsisType, ...]  # where it is in leaf[cuts]
    shape: tuple[int, ...]  # of leaf[index]
    wanted: tuple[slice, ...]  # where it is in leaf[index]


def _overlap(index: Index, leaf_shape: tuple[int, ...], cuts: tuple[slice, ...]) -> _Overlap | None:
    target: list[int | slice | EllipsisType] = []
    shape, wanted = [], []
    for axis, (cut, size) in enumerate(zip(cuts, leaf_shape, strict=True)):
        own = index[axis] if axis < len(index) else slice(None)
        if isinstance(own, int):
            if not cut.start <= own % size < cut.stop:
                return None
            target.append(own % size - cut.start)
            continue
        first, last, _ = own.indices(size)
        begin, end = max(first, cut.start), min(last, cut.stop)
        if begin >= end:
            return None
        target.append(slice(begin - cut.start, end - cut.start))
        shape.append(last - first)
        wanted.append(slice(begin - first, end - first))
    return _Overlap((*target, ...), tuple(shape), tuple(wanted))


def _row_axis(slot: TensorSlot, shape: tuple[int, ...]) -> int | None:
    """The axis of the parameter's part, of this shape, that the tensor's rows run along.

    None if there is none (a scalar, or more than a matrix that is to be turned): the tensor is then read at once.
    """
    axis = 1 if slot.transpose and len(slot.shape) > 1 else 0
    if len(shape) <= axis or slot.shape[0] % shape[axis]:
        return None
    if axis == 1 and (len(slot.shape) > 2 or shape[0] != slot.shape[1]):
        return None
    return axis


def _turned(piece: np.ndarray, slot: TensorSlot, shape: tuple[int, ...]) -> np.ndarray:
    return (piece.T if slot.transpose else piece).reshape(shape)
