"""A random model as a Hugging Face directory, so that every engine loads the same weights."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from muxjax.models.config import DecoderConfig
from muxjax.models.load import load_model
from muxjax.models.registry import find_architecture
from muxjax.models.weights import flatten_names


def write_checkpoint(directory: Path, fields: Mapping[str, object]) -> DecoderConfig:
    """Write config.json with these fields, and seeded random weights in float32 as model.safetensors."""
    config_path = directory / "config.json"
    config_path.write_text(json.dumps(dict(fields)))
    model = load_model(f"random:{config_path}", dtype=jnp.dtype("float32"))
    state = nnx.to_pure_dict(nnx.state(model.decoder))
    leaves = {name: np.asarray(leaf) for name, leaf in flatten_names(state).items()}
    slots = find_architecture(model.architecture).tensor_slots(model.config)
    header, offset = {}, 0
    for name, slot in slots.items():
        end = offset + 4 * int(np.prod(slot.shape))
        header[name] = {"dtype": "F32", "shape": slot.shape, "data_offsets": (offset, end)}
        offset = end
    # transformers asks for the format; the header ends on a multiple of 8 bytes.
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for slot in slots.values():
            file.write(np.ascontiguousarray(slot.join(leaves)).tobytes())
    return model.config
