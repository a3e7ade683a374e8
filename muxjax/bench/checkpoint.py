"""A random model as a Hugging Face directory, so that every engine loads the same weights."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from muxjax.models.config import DecoderConfig
from muxjax.models.huggingface import write_tensors
from muxjax.models.load import load_model
from muxjax.models.registry import find_architecture
from muxjax.models.weights import flatten_names


def write_checkpoint(
    directory: Path, fields: Mapping[str, object], dtype: str = "float32", shards: int = 1
) -> DecoderConfig:
    """Write config.json with these fields, and seeded random weights as so many safetensors files, or one more."""
    config_path = directory / "config.json"
    config_path.write_text(json.dumps(dict(fields)))
    model = load_model(f"random:{config_path}", dtype=jnp.dtype(dtype))
    leaves = flatten_names(nnx.to_pure_dict(nnx.state(model.decoder)))
    slots = find_architecture(model.architecture).tensor_slots(model.config)
    on_host = {name: np.asarray(leaf) for name, leaf in leaves.items()}
    total = sum(leaf.nbytes for leaf in on_host.values())
    write_tensors(directory, slots, on_host, max_shard_bytes=total // shards)
    return model.config
