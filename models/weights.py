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
    return {".".join(key.key for key in path): leaf for path, leaf in paths}


def nest_names(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of flatten_names."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def place_tensors(
    tensors: Mapping[str, np.ndarray],
    slots: Mapping[str, TensorSlot],
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
    for name, slot in slots.items():
        leaf = leaves[slot.leaf]
        if slot.leaf not in arrays:
            arrays[slot.leaf] = np.empty(leaf.shape, leaf.dtype)
        part = arrays[slot.leaf][*slot.index, ...]  # the ellipsis makes it a view even of a scalar
        tensor = tensors[name].T if slot.transpose else tensors[name]
        part[...] = tensor.reshape(part.shape)
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


def _check_slots_fill_leaves(slots: Mapping[str, TensorSlot], leaves: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    filled = dict.fromkeys(leaves, 0)
    for slot in slots.values():
        filled[slot.leaf] += math.prod(slot.shape)
    partly = [name for name, leaf in leaves.items() if filled[name] != math.prod(leaf.shape)]
    if partly:
        raise CheckpointError(f"the architecture's tensor slots do not fill {', '.join(partly)}: this is a bug in it")


def listed(problems: Iterable[str], *, most: int = 20) -> str:
    """Problems on one line each, the first `most` of them."""
    problems = list(problems)
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "".join(f"\n  {problem}" for problem in problems[:most] + more)
