"""Hugging Face directories: config.json, generation_config.json, and safetensors in one or many files."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import CheckpointError, ConfigError
from muxjax.models.model_files import is_there, read_json
from muxjax.models.registry import find_architecture
from muxjax.models.safetensors import StoredTensor, read_safetensors, write_safetensors
from muxjax.models.weights import Slots, listed

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000  # as Hugging Face splits them


def read_config(path: Path) -> tuple[str, DecoderConfig]:
    """The architecture's name and the decoder's shape, from a config.json.

    Raises:
        ConfigError: the file is missing or malformed, or describes something that muxjax does not have.
    """
    values = read_json(path, ConfigError)
    try:
        names = values.get("architectures")
        if not (isinstance(names, list) and names and isinstance(names[0], str)):
            raise ConfigError(f'architectures must be a list such as ["LlamaForCausalLM"], not {names!r}')
        return names[0], find_architecture(names[0]).read_config(ConfigFields(values))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_eos_token_ids(paths: Iterable[Path], vocab_size: int) -> tuple[int, ...]:
    """The tokens that end a text, from the first of the files that names any; none if no file does.

    Raises:
        ConfigError: they are not token ids of the vocabulary.
    """
    for path in paths:
        if not is_there(path):
            continue
        try:
            fields = ConfigFields(read_json(path, ConfigError))
            text = fields.section("text_config") or fields
            token_ids = fields.token_ids("eos_token_id") or text.token_ids("eos_token_id")
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        if any(token_id >= vocab_size for token_id in token_ids):
            raise ConfigError(f"{path}: eos_token_id {list(token_ids)} lies outside the vocabulary of {vocab_size}")
        if token_ids:
            return token_ids
    return ()


def write_config(directory: Path, architecture: str, config: DecoderConfig, eos_token_ids: tuple[int, ...]) -> None:
    """Write the config.json that read_config and read_eos_token_ids read."""
    fields = {"architectures": [architecture], **find_architecture(architecture).write_config(config)}
    if eos_token_ids:
        fields["eos_token_id"] = list(eos_token_ids)
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n")


def read_tensors(directory: Path) -> dict[str, StoredTensor]:
    """All tensors of the checkpoint, to be read; through the index if the directory has one.

    Raises:
        CheckpointError: files are missing or damaged, or the index does not agree with them.
    """
    if is_there(directory / INDEX):
        return _read_sharded(directory)
    if is_there(directory / WEIGHTS):
        return read_safetensors(directory / WEIGHTS)
    found = ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
    raise CheckpointError(
        f"{directory}: no weights: neither {WEIGHTS} nor {INDEX} nor an Orbax checkpoint in weights/ (found {found})"
    )


def write_tensors(
    directory: Path, slots: Slots, leaves: Mapping[str, np.ndarray], *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write the tensors that these parameters, layers stacked, were made of: read_tensors reads them.

    One file, or several with an index where that one were larger than `max_shard_bytes`.
    """
    tensors = {name: (leaves[slot.parts[0].leaf].dtype, slot.shape) for name, slot in slots.items()}

    def make(name: str) -> np.ndarray:
        return slots[name].join(leaves)

    sizes = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in tensors.items()}
    shards: list[list[str]] = [[]]
    for name, size in sizes.items():
        if shards[-1] and sum(sizes[other] for other in shards[-1]) + size > max_shard_bytes:
            shards.append([])
        shards[-1].append(name)
    if len(shards) == 1:
        write_safetensors(directory / WEIGHTS, tensors, make)
        return
    files = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(directory / file, {name: tensors[name] for name in names}, make)
        files.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": files}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _read_sharded(directory: Path) -> dict[str, StoredTensor]:
    index = directory / INDEX
    files = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(f"{index}: weight_map must map tensor names to file names")
    names = sorted(set(files.values()))
    if outside := [name for name in names if name in ("", ".", "..") or Path(name).name != name]:
        raise CheckpointError(f"{index}: weight_map must name files of the directory itself, not {', '.join(outside)}")
    shards = {name: read_safetensors(directory / name) for name in names}
    problems = [f"{tensor} is not in {name}" for tensor, name in files.items() if tensor not in shards[name]]
    problems += [
        f"{tensor} of {name} is not in the index"
        for name, shard in shards.items()
        for tensor in shard
        if files.get(tensor) != name
    ]
    if problems:
        raise CheckpointError(f"{index} does not agree with the files that it names:{listed(problems)}")
    return {tensor: shards[name][tensor] for tensor, name in files.items()}
