"""From named tensors to the parameters of a module."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from muxjax.models.decoder import Decoder
from muxjax.models.errors import CheckpointError

Index = tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """The place of one checkpoint tensor in the module's parameters.

    Attributes:
        leaf: the parameter's dotted name, such as "layers.attention.qkv".
        shape: the tensor's shape in the checkpoint.
        index: the part of the parameter that the tensor fills; the whole if empty.
        transpose: whether the checkpoint has it as [out, in], where the parameter is [in, out].
    """

    leaf: str
    shape: tuple[int, ...]
    index: Index = ()
    transpose: bool = False

    @property
    def parts(self) -> "tuple[TensorSlot, ...]":
        """As of a FusedSlot: itself."""
        return (self,)

    def split(self, tensor: np.ndarray) -> list[np.ndarray]:
        """As of a FusedSlot: the whole tensor."""
        return [tensor]

    def join(self, leaves: Mapping[str, np.ndarray]) -> np.ndarray:
        """The tensor as the checkpoint has it, out of the parameters."""
        part = leaves[self.leaf][*self.index, ...]
        return part.reshape(self.shape[::-1]).T if self.transpose else part.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class FusedSlot:
    """The places of a checkpoint tensor that holds several, one after the other along one axis.

    Attributes:
        parts: the places of those tensors, in order; a part's shape is as if it were a tensor of its own.
        axis: the axis of the tensor along which they lie.
    """

    parts: tuple[TensorSlot, ...]
    axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape in the checkpoint."""
        shape = list(self.parts[0].shape)
        shape[self.axis] = sum(part.shape[self.axis] for part in self.parts)
        return tuple(shape)

    def split(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The parts of the tensor, as views."""
        ends = np.cumsum([part.shape[self.axis] for part in self.parts])
        return np.split(tensor, ends[:-1], axis=self.axis)

    def join(self, leaves: Mapping[str, np.ndarray]) -> np.ndarray:
        """The tensor as the checkpoint has it, out of the parameters."""
        return np.concatenate([part.join(leaves) for part in self.parts], axis=self.axis)


@dataclass(frozen=True)
class Skeleton:
    """A module without its arrays: what its parameters are called, and their shapes."""

    graph: nnx.GraphDef[Decoder]
    leaves: Mapping[str, jax.ShapeDtypeStruct]

    @classmethod
    def of(cls, build: Callable[[], Decoder]) -> "Skeleton":
        """The skeleton of what `build` would make; no array is allocated."""
        graph, state = nnx.split(nnx.eval_shape(build))
        return cls(graph, flatten_names(nnx.to_pure_dict(state)))

    def fill(self, arrays: Mapping[str, jax.Array]) -> Decoder:
        """The module with these arrays as its parameters."""
        return nnx.merge(self.graph, nest_names(arrays))


def flatten_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries as one, keyed by dotted names."""
    paths, _ = jax.tree.flatten_with_path(tree)
    return {".".join(str(key.key) for key in path): leaf for path, leaf in paths}


def nest_names(leaves: Mapping[str, Any]) -> dict[str | int, Any]:
    """The inverse of flatten_names; numbers are the places of a list."""
    tree: dict[str | int, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = (int(part) if part.isdecimal() else part for part in name.split("."))
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def place_tensors(
    tensors: Mapping[str, np.ndarray],
    slots: Mapping[str, TensorSlot | FusedSlot],
    leaves: Mapping[str, jax.ShapeDtypeStruct],
) -> dict[str, jax.Array]:
    """Copy checkpoint tensors into arrays of the parameters' shapes and dtypes.

    Raises:
        CheckpointError: the tensors are not those that the slots describe; the message lists all that are wrong.
    """
    check_fit(
        {name: tensor.shape for name, tensor in tensors.items()}, {name: slot.shape for name, slot in slots.items()}
    )
    _check_slots_fill_leaves(slots, leaves)
    arrays: dict[str, np.ndarray] = {}
    for name, whole in slots.items():
        for slot, tensor in zip(whole.parts, whole.split(tensors[name]), strict=True):
            leaf = leaves[slot.leaf]
            if slot.leaf not in arrays:
                arrays[slot.leaf] = np.empty(leaf.shape, leaf.dtype)
            part = arrays[slot.leaf][*slot.index, ...]  # the ellipsis makes it a view even of a scalar
            part[...] = (tensor.T if slot.transpose else tensor).reshape(part.shape)
    return {name: jax.device_put(array) for name, array in arrays.items()}


def check_fit(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the shapes of a checkpoint's tensors with those that the configuration asks for.

    Raises:
        CheckpointError: tensors missing, left over, or of another shape; the message lists all of them.
    """
    problems = [
        *(f"{name} is missing" for name in wanted if name not in found),
        *(f"{name} is not part of this architecture" for name in found if name not in wanted),
        *(
            f"{name} has shape {list(found[name])}, the configuration needs {list(shape)}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape
        ),
    ]
    if problems:
        raise CheckpointError(f"the weights do not fit the configuration:{listed(problems)}")


def _check_slots_fill_leaves(
    slots: Mapping[str, TensorSlot | FusedSlot], leaves: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    filled = dict.fromkeys(leaves, 0)
    for slot in slots.values():
        for part in slot.parts:
            filled[part.leaf] += math.prod(part.shape)
    partly = [name for name, leaf in leaves.items() if filled[name] != math.prod(leaf.shape)]
    if partly:
        raise CheckpointError(f"the architecture's tensor slots do not fill {', '.join(partly)}: this is a bug in it")


def listed(problems: Iterable[str], *, most: int = 20) -> str:
    """Problems on one line each, the first `most` of them."""
    problems = list(problems)
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "".join(f"\n  {problem}" for problem in problems[:most] + more)
