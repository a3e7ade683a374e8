"""Weights in Orbax's own format: what muxjax writes, and one of the formats that it reads."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp  # type: ignore[import-untyped]

from muxjax.models.errors import CheckpointError
from muxjax.models.weights import check_fit, flatten_names, nest_names


def save_weights(path: Path, arrays: Mapping[str, jax.Array]) -> None:
    """Write arrays, keyed by dotted names, as one checkpoint; what was at `path` is replaced."""
    with _quiet(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), nest_names(arrays), force=True)


def restore_weights(path: Path, leaves: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Read the arrays that `leaves` names, on the default device and in the dtypes that `leaves` asks for.

    Raises:
        CheckpointError: the checkpoint is damaged, or has other arrays; the message lists all of those.
    """
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # else they go where they were saved from
    wanted = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding) for name, leaf in leaves.items()}
    with _quiet(), ocp.StandardCheckpointer() as checkpointer:
        try:
            metadata = checkpointer.metadata(path.absolute()).item_metadata
            if metadata is None:
                raise CheckpointError("the Orbax checkpoint is damaged: its metadata cannot be read")
            check_fit(_shapes(flatten_names(metadata.tree)), _shapes(leaves))
            return flatten_names(checkpointer.restore(path.absolute(), nest_names(wanted)))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        except Exception as error:  # damaged files surface as many types, from JSON to the storage library
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{path}: the Orbax checkpoint is damaged: {reason}") from error


def _shapes(leaves: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in leaves.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax's notes on its own internals from the user's terminal."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
