"""Models spread over several devices: who has which part of what, and that together they are the model."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from muxjax.models import registry
from muxjax.models.attention import causal_attention
from muxjax.models.collectives import AXIS
from muxjax.models.convert import convert
from muxjax.models.decoder import Decoder
from muxjax.models.errors import ConfigError
from muxjax.models.load import load_model, save_model, weight_bytes
from muxjax.models.random import random_weights
from muxjax.models.source import find_model
from muxjax.models.spread import Spread, make_mesh
from tests.models.checkpoints import TINY, read_golden, write_golden
from tests.models.test_extending import FILES

# Fewer KV heads than devices, with their norms over all heads; sizes that the devices do not divide; biases, that of
# the head too; attention and MLP side by side; experts.
CASES: list[tuple[str, dict[str, Any], int, Any]] = [
    ("eight_queries_on_one_kv_head_of_80", {}, 8, "int8"),
    ("olmo2", {"num_key_value_heads": 1}, 2, None),
    ("gpt2", {"n_inner": 75}, 4, "int8"),
    ("phi_tied", {}, 2, "int8"),
    ("gpt_neox", {}, 4, None),
    ("qwen3_moe_with_dense_layers", {"moe_intermediate_size": 21}, 2, "int8"),
]


def mesh_of(devices: int) -> jax.sharding.Mesh:
    return make_mesh(jax.devices()[:devices])


def leaves(decoder: Decoder) -> dict[str, Any]:
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(nnx.state(decoder))}


def logits(decoder: Decoder, mesh: jax.sharding.Mesh, token_ids: list[int]) -> np.ndarray:
    """Of every token, by the devices together."""
    graph, state = nnx.split(decoder)
    arrays, structure = jax.tree.flatten(state)

    def run(arrays: list[jax.Array], token_ids: jax.Array) -> jax.Array:
        own = nnx.merge(graph, jax.tree.unflatten(structure, arrays))
        hidden, _ = own(token_ids, jnp.arange(token_ids.size), causal_attention)
        return own.logits(hidden)

    specs = [array.sharding.spec for array in arrays]
    on_all = jax.shard_map(
        run, mesh=mesh, in_specs=(specs, PartitionSpec()), out_specs=PartitionSpec(None, AXIS), check_vma=False
    )
    return np.asarray(jax.jit(on_all)(arrays, jnp.asarray(token_ids)))


@pytest.mark.parametrize(("case", "changed", "devices", "quantization"), CASES)
def test_the_parts_together_are_the_model(
    tmp_path: Path, case: str, changed: dict[str, Any], devices: int, quantization: Any
) -> None:
    golden = read_golden(case)
    source = write_golden(tmp_path, {**golden, "config": golden["config"] | changed})
    one, many = (
        load_model(source, dtype=jnp.float32, quantization=quantization, mesh=mesh_of(number))
        for number in (1, devices)
    )
    vocab = one.config.vocab_size
    alone = logits(one.decoder, mesh_of(1), golden["prompt"])
    together = logits(many.decoder, mesh_of(devices), golden["prompt"])
    assert together.shape[1] == -(-vocab // devices) * devices
    np.testing.assert_allclose(together[:, :vocab], alone, atol=5e-5)
    assert np.all(together[:, vocab:] < alone.min() - 1000)
    planned = weight_bytes(source, dtype=jnp.float32, quantization=quantization, devices=devices)
    for device in range(devices):
        parts = [array.addressable_shards[device].data for array in jax.tree.leaves(leaves(many.decoder))]
        assert sum(part.nbytes for part in parts) == planned


@pytest.mark.parametrize("write", ["safetensors", "orbax", "random"])
def test_wherever_weights_come_from_each_device_gets_the_same_part_of_them(tmp_path: Path, write: str) -> None:
    config = {**TINY, "num_attention_heads": 4, "num_key_value_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    source: str | Path = f"random:{tmp_path / 'config.json'}"
    if write != "random":
        save_model(tmp_path / "orbax", load_model(source, dtype=jnp.float32))
        source = tmp_path / "orbax"
    if write == "safetensors":
        (tmp_path / "hf").mkdir()
        convert(source, tmp_path / "hf")
        source = tmp_path / "hf"
    one, many = (leaves(load_model(source, dtype=jnp.float32, mesh=mesh_of(number)).decoder) for number in (1, 4))
    groups = one["layers.0.attention.qkv"]  # [hidden, 1, 4 + 2, dim]
    assert groups.shape[1:3] == (1, 6)
    for device, shard in enumerate(many["layers.0.attention.qkv"].addressable_shards):
        np.testing.assert_array_equal(shard.data[:, 0], groups[:, 0, [device, 4, 5]])
    for name, cut in {
        "layers.1.attention.out": PartitionSpec(AXIS, None),
        "layers.1.mlp.gate_up": PartitionSpec(None, None, AXIS),
        "layers.1.mlp.down": PartitionSpec(AXIS, None),
        "layers.1.mlp_norm.scale": PartitionSpec(),
        "embedding": PartitionSpec(AXIS, None),
    }.items():
        array = many[name]
        assert array.sharding.is_equivalent_to(NamedSharding(mesh_of(4), cut), array.ndim), name
        np.testing.assert_array_equal(np.asarray(array)[: one[name].shape[0]], one[name])


def test_random_weights_are_made_where_they_belong(tmp_path: Path) -> None:
    """No device holds more than its part of them and of one stack, the first one, which serves nobody here, nothing."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**TINY, "num_key_value_heads": 4, "vocab_size": 1000}))
    idle, *serving = jax.devices()[:5]
    found, mesh = find_model(f"random:{path}"), make_mesh(serving)
    spread = Spread(mesh, kv_heads=4)
    skeleton = found.skeleton(jnp.float32, unroll=True)
    skeleton = skeleton.with_sharding(lambda name, shape: spread.read_to(skeleton.cuts[name], shape))
    before, most = {device: held(device) for device in (idle, *serving)}, dict.fromkeys((idle, *serving), 0)

    def watch(name: str, array: jax.Array) -> jax.Array:
        for device in most:
            most[device] = max(most[device], held(device) - before[device])
        return array

    weights = random_weights(found.architecture, found.config, skeleton, watch)
    assert most[idle] < 100  # the number of a layer
    parts = [math.prod(array.sharding.shard_shape(array.shape)) * array.itemsize for array in weights.values()]
    for device in serving:
        assert most[device] <= sum(parts) + found.config.num_layers * max(parts)


def held(device: jax.Device) -> int:
    """Bytes of all arrays on a device."""
    arrays = [array for array in jax.live_arrays() if device in array.sharding.device_set]
    return sum(math.prod(array.sharding.shard_shape(array.shape)) * array.itemsize for array in arrays)


def test_eight_bits_are_those_of_one_device(tmp_path: Path) -> None:
    source = write_golden(tmp_path, read_golden("gpt2"))
    one, many = (
        leaves(load_model(source, dtype=jnp.float32, quantization="int8", mesh=mesh_of(number)).decoder)
        for number in (1, 4)
    )
    for name in ("layers.0.mlp.down", "layers.0.mlp.up", "layers.1.attention.out", "positions"):
        np.testing.assert_array_equal(np.asarray(many[name].values), one[name].values)
        np.testing.assert_array_equal(np.asarray(many[name].scales), one[name].scales)


def test_a_layer_of_ones_own_that_is_made_of_muxjaxs_parts_is_spread_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/extending.md says of the one that it shows."""
    monkeypatch.setattr(registry, "_architectures", dict(registry._architectures))
    exec(FILES["parallel.py"], {"__name__": "parallel"})
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**TINY, "architectures": ["ParallelForCausalLM"]}))
    one, two = (
        logits(
            load_model(f"random:{path}", dtype=jnp.float32, mesh=mesh_of(number)).decoder, mesh_of(number), [3, 1, 4]
        )
        for number in (1, 2)
    )
    np.testing.assert_allclose(two[:, : one.shape[1]], one, atol=1e-5)


def test_heads_that_devices_cannot_share_are_refused(tmp_path: Path) -> None:
    source = write_golden(tmp_path, read_golden("olmo2"))
    with pytest.raises(ConfigError, match=r"6 query heads on 2 KV heads cannot be spread over 4 devices .*: 1, 2"):
        load_model(source, dtype=jnp.float32, mesh=mesh_of(4))
