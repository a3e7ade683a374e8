"""Hugging Face directories as tests need them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (lets NumPy hold bfloat16)
import numpy as np
from safetensors.numpy import save_file

import muxjax.models.families  # noqa: F401  (registers them)
from muxjax.models.config_fields import ConfigFields
from muxjax.models.registry import find_architecture
from tests.oracle.cases import seeded_tensor

GOLDEN = Path(__file__).parents[1] / "oracle/golden"

TINY: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
}


def seeded_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor that a checkpoint of this configuration has, under Hugging Face's names."""
    architecture = find_architecture(config["architectures"][0])
    slots = architecture.tensor_slots(architecture.read_config(ConfigFields(config)))
    return {name: seeded_tensor(name, slot.shape, seed) for name, slot in slots.items()}


def write_checkpoint(
    directory: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, shards: int = 1
) -> Path:
    """config.json and the tensors, in one file or in several with an index."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(dict(config)))
    if shards == 1:
        save_file(dict(tensors), directory / "model.safetensors")
        return directory
    names = sorted(tensors)
    files = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return directory


def read_golden(name: str) -> dict[str, Any]:
    """What transformers said about one of the cases of tests/oracle/cases.py."""
    golden: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return golden


def write_golden(directory: Path, golden: Mapping[str, Any]) -> Path:
    """That case's model as a Hugging Face directory."""
    return write_checkpoint(directory, golden["config"], seeded_tensors(golden["config"], golden["seed"]))
