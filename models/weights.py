"""What a module's parameters are called, and which of a checkpoint's tensors they are made of."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import jax
import numpy as np
from flax import nnx

from muxjax.models.decoder import Decoder
from muxjax.models.errors import CheckpointError
from muxjax.models.quantization import Int8Weights
from muxjax.models.sharding import Cut

Index = tuple[int | slice, ...]
LAYERS = "layers."

ShardingOf = Callable[[str, tuple[int, ...]], jax.sharding.Sharding]
"""sharding(name, shape): where a parameter goes."""

Fit = Callable[[str, jax.Array], jax.Array | Int8Weights]
"""fit(name, array): what becomes of a parameter as soon as it is there, such as its quantized form."""


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """The place of one checkpoint tensor in the module's parameters.

    Attributes:
        leaf: the parameter's dotted name, such as "layers.attention.qkv"; of the stack, if layers are stacked.
        shape: the tensor's shape in the checkpoint.
        index: the part of the parameter that the tensor fills; the whole if empty. In a stack it begins with the layer.
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

    @property
    def cuts(self) -> tuple[tuple[slice, ...], ...]:
        """As of a FusedSlot: the whole tensor."""
        return ((),)

    def join(self, leaves: Mapping[str, np.ndarray]) -> np.ndarray:
        """The tensor as the checkpoint has it, out of the parameters."""
        part = leaves[self.leaf][*self.index, ...]
        return part.reshape(self.shape[::-1]).T if self.transpose else part.reshape(self.shape)

    def of_layer(self) -> "TensorSlot":
        """The same place where layers are apart: "layers.norm.scale"[3, ...] becomes "layers.3.norm.scale"[...]."""
        layer, *index = self.index
        return replace(self, leaf=self.leaf.replace(LAYERS, f"{LAYERS}{layer}.", 1), index=tuple(index))


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

    @property
    def cuts(self) -> tuple[tuple[slice, ...], ...]:
        """Where in the tensor each part lies."""
        before = (slice(None),) * self.axis
        sizes = [part.shape[self.axis] for part in self.parts]
        return tuple((*before, slice(end - size, end)) for size, end in zip(sizes, accumulate(sizes), strict=True))

    def join(self, leaves: Mapping[str, np.ndarray]) -> np.ndarray:
        """The tensor as the checkpoint has it, out of the parameters."""
        return np.concatenate([part.join(leaves) for part in self.parts], axis=self.axis)


@dataclass(frozen=True)
class Skeleton:
    """A module without its arrays: what its parameters are called, and their shapes.

    Attributes:
        graph: all that is no array.
        leaves: the parameters' shapes and dtypes.
        in_axes: of the weights that can be quantized, the axis that products sum over (see `linear.init_weights`).
        cuts: how devices share the parameters; those that cannot be are not in it.
        is_unrolled: whether its layers are one by one.
    """

    graph: nnx.GraphDef[Decoder]
    leaves: Mapping[str, jax.ShapeDtypeStruct]
    in_axes: Mapping[str, int]
    cuts: Mapping[str, Cut]
    is_unrolled: bool

    @classmethod
    def of(cls, build: Callable[[], Decoder]) -> "Skeleton":
        """The skeleton of what `build` would make; no array is allocated."""
        module = nnx.eval_shape(build)
        graph, state = nnx.split(module)
        variables = {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}

        def noted(key: str) -> dict[str, Any]:
            notes = {name: variable.get_metadata().get(key) for name, variable in variables.items()}
            return {name: note for name, note in notes.items() if note is not None}

        leaves = {name: variable.get_value() for name, variable in variables.items()}
        return cls(graph, leaves, noted("in_axis"), noted("cut"), isinstance(module.layers, nnx.List))

    def with_sharding(self, sharding: ShardingOf) -> "Skeleton":
        """The same, where each leaf knows the devices that it goes to."""
        leaves = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding(name, leaf.shape))
            for name, leaf in self.leaves.items()
        }
        return replace(self, leaves=leaves)

    def with_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> "Skeleton":
        """The same with other types, by the leaves' names; those that are not named keep theirs."""
        leaves = {
            name: jax.ShapeDtypeStruct(leaf.shape, dtypes.get(name, leaf.dtype), sharding=leaf.sharding)
            for name, leaf in self.leaves.items()
        }
        return replace(self, leaves=leaves)

    def find(self, slot: TensorSlot) -> TensorSlot:
        """The slot as this skeleton has it, be its layers stacked or apart."""
        return slot if slot.leaf in self.leaves else slot.of_layer()

    def fill(self, arrays: Mapping[str, jax.Array | Int8Weights]) -> Decoder:
        """The module with these arrays as its parameters."""
        return nnx.merge(self.graph, nest_names(arrays))


Slots = Mapping[str, TensorSlot | FusedSlot]
"""For every tensor of a checkpoint, where it goes."""


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


def listed(problems: Iterable[str], *, most: int = 20) -> str:
    """Problems on one line each, the first `most` of them, and not longer than a person reads."""
    problems = [problem[:500] if problem.isprintable() else ascii(problem)[:500] for problem in problems]
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "".join(f"\n  {problem}" for problem in problems[:most] + more)
