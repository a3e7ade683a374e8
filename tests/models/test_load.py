"""Models from directories: every layout gives the same weights, and what does not fit is named."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from muxjax.models.decoder import Decoder
from muxjax.models.errors import CheckpointError, ModelError
from muxjax.models.load import load_model, save_model
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint
from tests.models.tokenizers_for_tests import byte_level
from tests.models.tokenizers_for_tests import load as load_tokenizer

TIED = {**TINY, "tie_word_embeddings": True}


def leaves(decoder: Decoder) -> dict[str, np.ndarray]:
    paths = jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(decoder)))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}


def assert_same_weights(got: Decoder, expected: Decoder) -> None:
    jax.tree.map(np.testing.assert_array_equal, leaves(got), leaves(expected))


@pytest.mark.parametrize("config", [TINY, TIED], ids=["untied", "tied"])
def test_one_file_and_several_give_the_same_model(tmp_path: Path, config: dict[str, Any]) -> None:
    tensors = seeded_tensors(config)
    one = load_model(write_checkpoint(tmp_path / "one", config, tensors), dtype=jnp.float32)
    several = load_model(write_checkpoint(tmp_path / "several", config, tensors, shards=3), dtype=jnp.float32)
    assert one.config == several.config
    assert_same_weights(one.decoder, several.decoder)
    assert one.tokenizer is None


@pytest.mark.parametrize("stored", [np.float32, np.float16, jnp.bfloat16], ids=["f32", "f16", "bf16"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["as f32", "as bf16"])
def test_converts_to_the_dtype_asked_for(tmp_path: Path, stored: Any, dtype: jnp.dtype) -> None:
    tensors = {name: tensor.astype(stored) for name, tensor in seeded_tensors(TIED).items()}
    decoder = load_model(write_checkpoint(tmp_path, TIED, tensors), dtype=dtype).decoder
    assert {leaf.dtype for leaf in leaves(decoder).values()} == {np.dtype(dtype)}
    expected = tensors["model.layers.1.mlp.down_proj.weight"].T.astype(dtype)
    np.testing.assert_array_equal(decoder.layers.mlp.down[1], expected)


def test_leaves_out_what_hugging_face_leaves_out(tmp_path: Path) -> None:
    tensors = seeded_tensors(TIED)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(3, np.float32)
    load_model(write_checkpoint(tmp_path, TIED, tensors), dtype=jnp.float32)


def test_lists_every_tensor_that_does_not_fit(tmp_path: Path) -> None:
    tensors = seeded_tensors(TINY)
    del tensors["lm_head.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros((40, 24), np.float32)
    tensors["model.norm.weight"] = np.zeros(25, np.float32)
    tensors["model.layers.0.self_attn.q_proj.weight"] = np.zeros((24, 25), np.float32)
    with pytest.raises(CheckpointError) as caught:
        load_model(write_checkpoint(tmp_path, TINY, tensors), dtype=jnp.float32)
    message = str(caught.value)
    assert str(tmp_path) in message
    for problem in (
        "lm_head.weight is missing",
        "model.layers.1.mlp.up_proj.weight is missing",
        "model.layers.2.mlp.up_proj.weight is not part of this architecture",
        "model.norm.weight has shape [25], the configuration needs [24]",
        "model.layers.0.self_attn.q_proj.weight has shape [24, 25], the configuration needs [24, 24]",
    ):
        assert problem in message


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path, TINY, seeded_tensors(TINY), shards=2)


def edit_index(directory: Path, **changes: str | None) -> None:
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = {k: v for k, v in {**index["weight_map"], **changes}.items() if v is not None}
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("outside", ["../other.safetensors", "/tmp/other.safetensors", "a/b.safetensors", "..", ""])
def test_index_must_stay_inside_the_directory(sharded: Path, outside: str) -> None:
    edit_index(sharded, **{"lm_head.weight": outside})
    with pytest.raises(CheckpointError, match="must name files of the directory itself"):
        load_model(sharded, dtype=jnp.float32)


def test_index_and_files_must_agree(sharded: Path) -> None:
    first, second = sorted(path.name for path in sharded.glob("model-*"))
    edit_index(sharded, **{"lm_head.weight": second, "model.norm.weight": None, "more.weight": first})
    with pytest.raises(CheckpointError, match="does not agree") as caught:
        load_model(sharded, dtype=jnp.float32)
    for problem in (f"lm_head.weight is not in {second}", "model.norm.weight of ", f"more.weight is not in {first}"):
        assert problem in str(caught.value)


def test_index_names_a_missing_file(sharded: Path) -> None:
    gone = min(sharded.glob("model-*"))
    gone.unlink()
    with pytest.raises(CheckpointError, match=f"{gone.name}: cannot be read"):
        load_model(sharded, dtype=jnp.float32)


@pytest.mark.parametrize("weight_map", [None, [], {"a": 1}])
def test_index_of_the_wrong_type(sharded: Path, weight_map: Any) -> None:
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=r"index\.json: weight_map must map"):
        load_model(sharded, dtype=jnp.float32)


def test_says_what_a_directory_without_weights_holds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match=r"no weights.*found config\.json, pytorch_model\.bin"):
        load_model(tmp_path, dtype=jnp.float32)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/place", "no/such/place: no such directory"),
        ("random:no/such.json", r"no/such\.json: no such file"),
        ("demo:nonsense", "demo:nonsense: no such demo model"),
        ("demo:../demo", "no such demo model"),
    ],
)
def test_names_a_source_that_is_not_there(source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(source, dtype=jnp.float32)


@pytest.mark.parametrize(("configured", "expected"), [(5, (5, 1)), ([1, 5], (1, 5)), (None, (1,))])
def test_texts_end_with_the_tokenizers_eos_too(tmp_path: Path, configured: Any, expected: tuple[int, ...]) -> None:
    checkpoint = write_checkpoint(tmp_path, TINY, seeded_tensors(TINY))
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": configured}))
    load_tokenizer(checkpoint, byte_level(), eos_token="</s>")
    assert load_model(checkpoint, dtype=jnp.float32).eos_token_ids == expected


def test_random_weights_are_seeded(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps({**TINY, "eos_token_id": 5}))
    first, second = (load_model(f"random:{path}", dtype=jnp.float32) for _ in range(2))
    assert_same_weights(first.decoder, second.decoder)
    assert first.eos_token_ids == (5,)
    assert first.tokenizer is None


class TestOrbax:
    @pytest.mark.parametrize("config", [TINY, TIED], ids=["untied", "tied"])
    def test_loads_what_it_saved(self, tmp_path: Path, config: dict[str, Any]) -> None:
        model = load_model(write_checkpoint(tmp_path / "hf", config, seeded_tensors(config)), dtype=jnp.float32)
        save_model(tmp_path / "orbax", model)
        save_model(tmp_path / "orbax", model)  # replaces
        loaded = load_model(tmp_path / "orbax", dtype=jnp.float32)
        assert (loaded.config, loaded.eos_token_ids) == (model.config, model.eos_token_ids)
        assert_same_weights(loaded.decoder, model.decoder)
        assert sum(path.is_file() for path in (tmp_path / "orbax").rglob("*")) < 20

    def test_converts_to_the_dtype_asked_for(self, saved: Path) -> None:
        narrow, wide = (load_model(saved, dtype=dtype).decoder for dtype in (jnp.bfloat16, jnp.float32))
        expected = {name: leaf.astype(jnp.bfloat16) for name, leaf in leaves(wide).items()}
        jax.tree.map(np.testing.assert_array_equal, leaves(narrow), expected)

    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        path = tmp_path / "small.json"
        path.write_text(json.dumps(TINY))
        save_model(tmp_path / "saved", load_model(f"random:{path}", dtype=jnp.float32))
        return tmp_path / "saved"

    def test_lists_weights_that_do_not_fit(self, saved: Path) -> None:
        (saved / "config.json").write_text(json.dumps({**TIED, "intermediate_size": 44}))
        with pytest.raises(CheckpointError) as caught:
            load_model(saved, dtype=jnp.float32)
        for problem in (
            str(saved / "weights"),
            "embedding is not part of this architecture",
            "layers.mlp.down has shape [2, 40, 24], the configuration needs [2, 44, 24]",
        ):
            assert problem in str(caught.value)

    def test_damage_is_noticed_or_harmless(self, saved: Path) -> None:
        weights, whole = saved / "weights", load_model(saved, dtype=jnp.float32)
        noticed = []
        for path in filter(lambda path: path.is_file() and path.stat().st_size, sorted(weights.rglob("*"))):
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            try:
                assert_same_weights(load_model(saved, dtype=jnp.float32).decoder, whole.decoder)
            except CheckpointError as error:
                assert str(error).startswith(str(weights))  # noqa: PT017
                assert "the Orbax checkpoint is damaged" in str(error)  # noqa: PT017
                noticed.append(path.relative_to(weights).parts[0])
            path.write_bytes(content)
        assert {"_METADATA", "manifest.ocdbt", "d"} <= set(noticed)
