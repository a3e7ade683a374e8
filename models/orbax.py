"""Weights in Orbax's own format: what muxjax writes, and one of the formats that it reads."""

import logging
import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp  # type: ignore[import-untyped]
import tensorstore
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from jax.typing import ArrayLike

from muxjax.models.errors import CheckpointError
from muxjax.models.quantization import Int8Weights
from muxjax.models.weights import LAYERS, Fit, Skeleton, check_fit, flatten_names, nest_names

_LAYER = re.compile(rf"^{re.escape(LAYERS)}\d+\.")
# What is read or written at once, and what is kept until a file is: small beside the arrays, for these fill the memory.
_CHUNK_BYTES, _FILE_BYTES = 16 << 20, 64 << 20


def save_weights(path: Path, arrays: Mapping[str, jax.Array | np.ndarray]) -> None:
    """Write arrays, keyed by dotted names, as one checkpoint; what was at `path` is replaced.

    Arrays that are spread over devices are written shard by shard, without being gathered.
    """
    # Others are written from the host, without a note of where they were.
    held = {name: array if _is_sharded(array) else np.asarray(array) for name, array in arrays.items()}
    tree = nest_names(held)
    chunks = jax.tree.map(lambda array: ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES), tree)
    request = ocp.args.PyTreeSave(tree, chunks, ocdbt_target_data_file_size=_FILE_BYTES)
    with _quiet(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler(type_handler_registry=_handlers())) as checkpointer:
        checkpointer.save(path.absolute(), args=request, force=True)


def restore_weights(path: Path, skeleton: Skeleton, fit: Fit) -> dict[str, jax.Array | Int8Weights]:
    """Read a module's parameters in the dtypes, and to the devices, that the skeleton asks for.

    `fit(name, array)` is what becomes of each one as soon as it is there.

    Raises:
        CheckpointError: the checkpoint is damaged, or has other arrays; the message lists all of those.
    """
    path = path.absolute()
    arrays = {}
    with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
        with _damage_reported(path):
            stored = {name: tuple(leaf.shape) for name, leaf in _stored(checkpointer, path).items()}
            stacks = _stacks(skeleton.leaves, stored)
            check_fit(stored, {name: stack.leaf.shape for name, stack in stacks.items()})
        # Apart, so that an error names one, and leaves no reads of others behind. The largest first: a stack lies
        # beside its layers for a moment, and so the least is held beside the largest ones.
        for name, stack in sorted(stacks.items(), key=lambda item: item[1].leaf.size, reverse=True):
            with _damage_reported(path / name):
                array = _restore_one(checkpointer, path, name, stack.leaf)
            for layer, member in enumerate(stack.names):
                arrays[member] = fit(member, _take_layer(array, layer) if stack.is_apart else array)
    return arrays


def stored_dtypes(path: Path) -> dict[str, np.dtype[Any]]:
    """The types that the checkpoint's arrays have, by their dotted names. Raises CheckpointError."""
    with _quiet(), ocp.PyTreeCheckpointer() as checkpointer, _damage_reported(path):
        return {name: np.dtype(leaf.dtype) for name, leaf in _stored(checkpointer, path.absolute()).items()}


@dataclass(frozen=True, slots=True)
class _Stack:
    """An array of the checkpoint, and the parameters that it holds: one, or one for each layer."""

    names: list[str]
    leaf: jax.ShapeDtypeStruct
    is_apart: bool


def _stacks(leaves: Mapping[str, jax.ShapeDtypeStruct], stored: Container[str]) -> dict[str, _Stack]:
    """What the checkpoint must have for these parameters: layers are stacked there, unless it has them one by one."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in leaves:
        names[name if name in stored else _LAYER.sub(LAYERS, name)].append(name)
    stacks = {}
    for stored, members in names.items():
        leaf, is_apart = leaves[members[0]], members[0] != stored
        if is_apart:
            members.sort(key=lambda name: int(name.split(".")[1]))
            leaf = jax.ShapeDtypeStruct((len(members), *leaf.shape), leaf.dtype, sharding=_stacked(leaf.sharding))
        stacks[stored] = _Stack(members, leaf, is_apart)
    return stacks


def _stacked(sharding: Any) -> Any:
    """The sharding of a stack whose members have this one."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    return NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))


def _stored(checkpointer: ocp.Checkpointer, path: Path) -> dict[str, Any]:
    """What the checkpoint says of its arrays."""
    database = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}}
    tensorstore.KvStore.open(database).result().list().result()  # raises at once, naming the file, if it is damaged
    metadata = checkpointer.metadata(path).item_metadata
    if metadata is None:
        raise ValueError("its metadata cannot be read")
    return flatten_names(metadata.tree)


def _restore_one(checkpointer: ocp.Checkpointer, path: Path, name: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    sharding = leaf.sharding or SingleDeviceSharding(jax.devices()[0])  # else it goes to where it was saved from
    item = nest_names({name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)})
    restore_args = ocp.checkpoint_utils.construct_restore_args(item)
    request = ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)
    restored: jax.Array = flatten_names(checkpointer.restore(path, args=request))[name]
    return restored


def _handlers() -> Any:
    """How arrays are written: without a copy of the host's, which Orbax makes lest they change meanwhile."""
    return ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
        (jax.Array, ocp.type_handlers.ArrayHandler()),
    )


def _is_sharded(array: jax.Array | np.ndarray) -> bool:
    return isinstance(array, jax.Array) and len(array.sharding.device_set) > 1


@jax.jit
def _take_layer(stack: jax.Array, layer: ArrayLike) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(stack, layer, keepdims=False)


@contextmanager
def _damage_reported(place: Path) -> Iterator[None]:
    """Damaged files surface as exceptions of many types, from JSON's to the storage library's."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{place}: {error}") from None
    except Exception as error:
        cause = error.__cause__ or error  # Orbax wraps the storage library's error, which is the clearer one
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise CheckpointError(f"{place}: the Orbax checkpoint is damaged: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax's notes on its own internals from the user's terminal."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
