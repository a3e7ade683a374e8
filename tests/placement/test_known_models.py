"""Shapes of models: by name, from config.json, and what follows from them."""

import json
from pathlib import Path

import pytest

from muxjax.placement.errors import PlacementError
from muxjax.placement.known_models import KNOWN_MODELS, find_model

LLAMA_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 32000,
}


def write_config(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(LLAMA_7B | changes))
    return path


@pytest.mark.parametrize(("name", "billions"), [("llama-7b", 6.74), ("llama-13b", 13.0), ("llama-65b", 65.3)])
def test_parameters_are_those_of_the_published_models(name: str, billions: float) -> None:
    assert KNOWN_MODELS[name].parameters / 1e9 == pytest.approx(billions, rel=0.002)


def test_known_models_have_about_as_many_parameters_as_their_names_say() -> None:
    for shape in KNOWN_MODELS.values():
        assert shape.nominal_billions == pytest.approx(shape.parameters / 1e9, rel=0.09)


def test_memory_is_counted_by_the_name_as_the_authors_do() -> None:
    assert [KNOWN_MODELS[f"llama-{size}b"].weight_gb for size in (7, 13, 30, 65)] == [14, 26, 60, 130]


def test_kv_of_a_token_is_two_vectors_per_layer_and_kv_head() -> None:
    assert KNOWN_MODELS["llama-7b"].kv_bytes_per_token == 32 * 2 * 4096 * 2
    assert KNOWN_MODELS["llama-2-70b"].kv_bytes_per_token == 80 * 2 * 8 * 128 * 2


def test_a_name_may_have_an_organisation_before_it() -> None:
    assert find_model("huggyllama/llama-13b") is KNOWN_MODELS["llama-13b"]


def test_a_folder_or_config_of_a_known_models_sizes_is_that_model(tmp_path: Path) -> None:
    path = write_config(tmp_path / "mine")
    assert find_model("mine", tmp_path) is find_model(str(path)) is KNOWN_MODELS["llama-7b"]


def test_another_shape_is_named_after_its_folder_and_counts_real_bytes(tmp_path: Path) -> None:
    write_config(tmp_path / "wide", num_key_value_heads=4, head_dim=256, tie_word_embeddings=True)
    shape = find_model("wide", tmp_path)
    assert (shape.name, shape.kv_heads, shape.head_dim, shape.tied) == ("wide", 4, 256, True)
    assert shape.weight_gb == shape.weight_bytes / 1e9


def test_experts_add_weights_but_a_token_goes_through_few(tmp_path: Path) -> None:
    write_config(tmp_path / "moe", num_local_experts=8, num_experts_per_tok=2)
    shape = find_model("moe", tmp_path)
    mlp = 3 * 4096 * 11008 * 32
    assert shape.parameters - KNOWN_MODELS["llama-7b"].parameters == 7 * mlp + 32 * 8 * 4096
    assert shape.parameters - shape.active_parameters == 6 * mlp + 32000 * 4096


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(PlacementError, match=r"no model 'llama-8b'.*llama-7b, llama-13b"):
        find_model("llama-8b")


def test_all_wrong_sizes_are_named(tmp_path: Path) -> None:
    path = write_config(tmp_path, hidden_size="big", num_hidden_layers=0, vocab_size=None)
    with pytest.raises(PlacementError) as refused:
        find_model(str(tmp_path))
    assert refused.value.complaints == (
        f"{path}: hidden_size: must be a positive whole number, not 'big'",
        f"{path}: num_hidden_layers: must be a positive whole number, not 0",
        f"{path}: vocab_size: is missing",
    )


def test_a_config_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(PlacementError, match=r"config.json cannot be read"):
        find_model(str(tmp_path))
