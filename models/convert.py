"""From a Hugging Face folder to an Orbax checkpoint and back, bit for bit."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from muxjax.models.errors import ModelError
from muxjax.models.huggingface import MAX_SHARD_BYTES, write_tensors
from muxjax.models.orbax import restore_weights, save_weights, stored_dtypes
from muxjax.models.source import ORBAX_WEIGHTS, find_model
from muxjax.models.tokenizer import FILES
from muxjax.models.weights import Skeleton, Slots

_CARRIED = (
    "config.json",
    "generation_config.json",
    *FILES,
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "LICENSE",
    "README.md",
)


def convert(
    source: str | Path,
    directory: Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    tell: Callable[[str], None] = lambda words: None,
) -> str:
    """Write a model to an empty directory in the format that it does not have.

    Args:
        source: a model's directory or demo:NAME.
        directory: where to.
        max_shard_bytes: the largest safetensors file.
        tell: hears what is being done.

    Returns:
        What was written, in words.

    Raises:
        ModelError: there is no such model, or its files are damaged or do not fit together.
        OSError: the files cannot be written.
    """
    found = find_model(source)
    if not found.has_weights:
        raise ModelError(f"{source} is a shape without weights: there is nothing to convert")
    host = SingleDeviceSharding(jax.devices("cpu")[0])
    skeleton = found.skeleton(np.float32).with_sharding(lambda name, shape: host)
    slots = found.architecture.tensor_slots(found.config)
    if found.is_orbax:
        dtypes = stored_dtypes(found.orbax_path)
        tell(f"reading {found.orbax_path}: {_described(skeleton, dtypes)}")
        leaves = restore_weights(found.orbax_path, skeleton.with_dtypes(dtypes), _as_it_is)
        tell(f"writing {len(slots)} tensors")
        on_host = {name: np.asarray(leaf) for name, leaf in leaves.items()}
        write_tensors(directory, slots, on_host, max_shard_bytes=max_shard_bytes)
        kind = "in Hugging Face's format"
    else:
        tensors = found.tensors()
        dtypes = _leaf_dtypes(slots, {name: tensor.dtype for name, tensor in tensors.items()})
        tell(f"reading {len(tensors)} tensors of {found.directory}: {_described(skeleton, dtypes)}")
        leaves = found.assemble(skeleton.with_dtypes(dtypes), _as_it_is)
        tell("writing an Orbax checkpoint")
        save_weights(directory / ORBAX_WEIGHTS, {name: np.asarray(leaf) for name, leaf in leaves.items()})
        kind = "as an Orbax checkpoint"
    for name in _CARRIED:
        if (found.directory / name).is_file():
            shutil.copyfile(found.directory / name, directory / name)
    return kind


def _as_it_is(name: str, array: jax.Array) -> jax.Array:
    return array


def _leaf_dtypes(slots: Slots, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.dtype[Any]]:
    """The type of each parameter: that of its tensors.

    Raises:
        ModelError: one is made of tensors of several types, which could not be told apart on the way back.
    """
    of_leaf: dict[str, set[np.dtype[Any]]] = {}
    for name, slot in slots.items():
        for part in slot.parts:
            if name in dtypes:  # what is missing is for the reader to say
                of_leaf.setdefault(part.leaf, set()).add(dtypes[name])
    if mixed := [leaf for leaf, types in of_leaf.items() if len(types) > 1]:
        raise ModelError(f"the tensors of {', '.join(mixed)} are of several types: save the model in one type first")
    return {leaf: types.pop() for leaf, types in of_leaf.items()}


def _described(skeleton: Skeleton, dtypes: Mapping[str, np.dtype[Any]]) -> str:
    size = sum(leaf.size * dtypes[name].itemsize for name, leaf in skeleton.leaves.items() if name in dtypes)
    return f"{size / 1e9:.2f} GB, {', '.join(sorted({dtype.name for dtype in dtypes.values()}))}"
