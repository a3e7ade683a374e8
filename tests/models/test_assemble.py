"""Checkpoints of every family, read into every layout and written back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from muxjax.models import assemble
from muxjax.models.errors import CheckpointError
from muxjax.models.huggingface import read_tensors, write_tensors
from muxjax.models.load import load_model
from muxjax.models.registry import find_architecture
from muxjax.models.weights import flatten_names
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/oracle/golden"


def leaves(decoder: nnx.Module) -> dict[str, np.ndarray]:
    return jax.tree.map(np.asarray, flatten_names(nnx.to_pure_dict(nnx.state(decoder))))


@pytest.mark.parametrize("block_bytes", [1, 1000, assemble._BLOCK_BYTES], ids=["a row", "some rows", "whole"])
@pytest.mark.parametrize("name", ["phi3_tied_short_of_its_original_context", "gpt2", "qwen3_moe_with_dense_layers"])
def test_blocks_of_any_size_give_the_same_parameters_and_the_same_tensors_back(
    name: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "_BLOCK_BYTES", block_bytes)
    config = json.loads((GOLDEN / f"{name}.json").read_text())["config"]
    tensors = seeded_tensors(config)
    model = load_model(write_checkpoint(tmp_path, config, tensors), dtype=jnp.float32)
    slots = find_architecture(model.architecture).tensor_slots(model.config)
    for tensor, slot in slots.items():
        np.testing.assert_array_equal(slot.join(leaves(model.decoder)), tensors[tensor])


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.json")))
def test_every_case_is_written_as_it_was_read(name: str, tmp_path: Path) -> None:
    config = json.loads((GOLDEN / f"{name}.json").read_text())["config"]
    stored = [np.float32, np.float16, ml_dtypes.bfloat16][len(name) % 3]
    tensors = {key: tensor.astype(stored) for key, tensor in seeded_tensors(config).items()}
    model = load_model(write_checkpoint(tmp_path, config, tensors), dtype=stored)
    (tmp_path / "back").mkdir()
    slots = find_architecture(model.architecture).tensor_slots(model.config)
    write_tensors(tmp_path / "back", slots, leaves(model.decoder), max_shard_bytes=20_000)
    back = read_tensors(tmp_path / "back")
    assert back.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert back[key].dtype == tensor.dtype
        assert back[key].read().tobytes() == tensor.tobytes()


def test_layers_one_by_one_are_the_layers_of_the_stack(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, TINY, seeded_tensors(TINY))
    stacked = load_model(checkpoint, dtype=jnp.float32).decoder
    stacked.unroll()
    apart = load_model(checkpoint, dtype=jnp.float32, unroll=True).decoder
    jax.tree.map(np.testing.assert_array_equal, leaves(apart), leaves(stacked))


def test_lists_every_weight_of_a_type_that_weights_do_not_have(tmp_path: Path) -> None:
    tensors = seeded_tensors(TINY)
    for name in ("lm_head.weight", "model.norm.weight"):
        tensors[name] = tensors[name].astype(np.int64)
    with pytest.raises(CheckpointError, match=r"(?s)lm_head.weight has dtype int64.*model.norm.weight has dtype int64"):
        load_model(write_checkpoint(tmp_path, TINY, tensors), dtype=jnp.float32)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, sys
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec as P
from muxjax.models.load import load_model, save_model
from muxjax.models.weights import flatten_names

mesh = jax.make_mesh((8,), ("tp",), axis_types=(jax.sharding.AxisType.Auto,))
source, saved = sys.argv[1:]

def sharding(name, shape):
    cut = [axis for axis, size in enumerate(shape) if size % 8 == 0 and not (axis == 0 and len(shape) > 2)]
    return NamedSharding(mesh, P(*("tp" if axis == cut[-1] else None for axis in range(len(shape))) if cut else ()))

def arrays(decoder):
    return flatten_names(nnx.to_pure_dict(nnx.state(decoder)))

def check(got, expected):
    got, expected = arrays(got), arrays(expected)
    assert got.keys() == expected.keys()
    cut = 0
    for name, array in got.items():
        assert array.sharding.is_equivalent_to(sharding(name, array.shape), array.ndim), (name, array.sharding)
        np.testing.assert_array_equal(array, expected[name])
        cut += array.addressable_shards[0].data.size < array.size
    assert cut > 3

for unroll in (False, True):
    plain = load_model(source, dtype=jnp.float32, unroll=unroll).decoder
    check(load_model(source, dtype=jnp.float32, unroll=unroll, sharding=sharding).decoder, plain)
save_model(saved, load_model(source, dtype=jnp.float32, sharding=sharding))
for unroll in (False, True):
    plain = load_model(source, dtype=jnp.float32, unroll=unroll).decoder
    check(load_model(saved, dtype=jnp.float32, unroll=unroll, sharding=sharding).decoder, plain)
"""


def test_eight_devices_each_get_their_part_from_safetensors_and_from_orbax(tmp_path: Path) -> None:
    config = {**TINY, "num_attention_heads": 16, "num_key_value_heads": 8}
    checkpoint = write_checkpoint(tmp_path / "hf", config, seeded_tensors(config), shards=2)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", SHARDED, str(checkpoint), str(tmp_path / "orbax")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
