"""Weights in Orbax's own format: what muxjax writes, and one of the formats that it reads."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp  # type: ignore[import-untyped]
import tensorstore

from muxjax.models.errors import CheckpointError
from muxjax.models.weights import check_fit, flatten_names, nest_names


def save_weights(path: Path, arrays: Mapping[str, jax.Array]) -> None:
    """Write arrays, keyed by dotted names, as one checkpoint; what was at `path` is replaced."""
    on_host = {name: np.asarray(array) for name, array in arrays.items()}  # without a note of where they were
    with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), nest_names(on_host), force=True)


def restore_weights(path: Path, leaves: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Read the arrays that `leaves` names, on the default device and in the dtypes that `leaves` asks for.

    Raises:
        CheckpointError: the checkpoint is damaged, or has other arrays; the message lists all of those.
    """
    path = path.absolute()
    with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
        with _damage_reported(path):
            check_fit(_stored_shapes(checkpointer, path), {name: leaf.shape for name, leaf in leaves.items()})
        arrays = {}
        for name, leaf in leaves.items():  # apart, so that an error names one, and leaves no reads of others behind
            with _damage_reported(path / name):
                arrays[name] = _restore_one(checkpointer, path, name, leaf)
    return arrays


def _stored_shapes(checkpointer: ocp.Checkpointer, path: Path) -> dict[str, tuple[int, ...]]:
    database = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}}
    tensorstore.KvStore.open(database).result().list().result()  # raises at once, naming the file, if it is damaged
    metadata = checkpointer.metadata(path).item_metadata
    if metadata is None:
        raise ValueError("its metadata cannot be read")
    return {name: tuple(leaf.shape) for name, leaf in flatten_names(metadata.tree).items()}


def _restore_one(checkpointer: ocp.Checkpointer, path: Path, name: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # else it goes to where it was saved from
    item = nest_names({name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)})
    restore_args = ocp.checkpoint_utils.construct_restore_args(item)
    request = ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)
    restored: jax.Array = flatten_names(checkpointer.restore(path, args=request))[name]
    return restored


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
