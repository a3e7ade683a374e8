"""`python -m muxjax.profile` writes a table that the searches can read."""

import json
from pathlib import Path

import pytest

from muxjax.placement.cost.rounded import RoundedTable
from muxjax.placement.cost.table import read_table
from muxjax.placement.known_models import find_model
from muxjax.profile.__main__ import main

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 128,
}


def test_what_is_measured_can_be_placed_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    output = tmp_path / "cost.json"
    assert main([str(folder), "-o", str(output), "--batches", "4", "--lengths", "32", "40", "--quick"]) == 0
    cost, shape = RoundedTable(read_table(output)), find_model(str(folder))
    assert (cost.gpu_counts(shape), cost.shares(shape, 1), cost.max_batch(shape, 1, 100)) == ([1], [100], 4)
    assert cost.prefill_seconds(shape, 1, 100, [1, 4], 33).min() > 0
    assert cost.mean_decode_seconds(shape, 1, 100, [1, 4], 32, 33).min() > 0


def test_an_unknown_model_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["llama-8", "-o", str(tmp_path / "cost.json")]) == 2
    assert "there is no model 'llama-8'" in capsys.readouterr().err
    assert not (tmp_path / "cost.json").exists()
