"""config.json: both of its spellings, and clear words about what muxjax does not have."""

import json
from pathlib import Path
from typing import Any

import pytest

from muxjax.models.config import DecoderConfig
from muxjax.models.errors import ConfigError
from muxjax.models.huggingface import read_config, read_eos_token_ids, write_config
from muxjax.models.load import load_config
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_scaling import Llama3Scaling
from tests.models.checkpoints import TINY

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


def read(directory: Path, **changes: Any) -> DecoderConfig:
    (directory / "config.json").write_text(json.dumps({**TINY, **changes}))
    return read_config(directory / "config.json")[1]


def test_reads_sizes_and_defaults(tmp_path: Path) -> None:
    assert read(tmp_path) == DecoderConfig(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=40,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=6,
        max_context=64,
        norm_eps=1e-6,
        rope=RopeConfig(theta=10_000),
        tie_embeddings=False,
    )


def test_null_counts_as_absent(tmp_path: Path) -> None:
    config = read(tmp_path, head_dim=None, num_key_value_heads=None, rope_scaling=None)
    assert (config.head_dim, config.num_kv_heads) == (6, 4)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 500_000, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
    ],
)
def test_every_spelling_of_llama3_rope(tmp_path: Path, rope: dict[str, Any]) -> None:
    assert read(tmp_path, **rope).rope == RopeConfig(5e5, Llama3Scaling(8.0, 1.0, 4.0, 32))


@pytest.mark.parametrize(
    "config",
    [
        DecoderConfig(61, 24, 40, 2, 4, 2, 6, 64),
        DecoderConfig(7, 8, 9, 1, 3, 1, 2, 5, 1e-3, RopeConfig(5e5, Llama3Scaling(8.0, 1.0, 4.0, 32)), True),
    ],
)
def test_reads_back_what_it_writes(tmp_path: Path, config: DecoderConfig) -> None:
    write_config(tmp_path, "LlamaForCausalLM", config, (3, 5))
    assert read_config(tmp_path / "config.json") == ("LlamaForCausalLM", config)
    assert load_config(tmp_path) == config
    assert read_eos_token_ids([tmp_path / "config.json"], 7) == (3, 5)


REFUSED = {
    "unknown architecture": (
        {"architectures": ["FalconForCausalLM"]},
        r"'FalconForCausalLM' is not known to muxjax \(known: .*LlamaForCausalLM",
    ),
    "no architecture": ({"architectures": None}, "architectures must be a list"),
    "empty architectures": ({"architectures": []}, "architectures must be a list"),
    "missing": ({"hidden_size": None}, "hidden_size is missing"),
    "text for a number": ({"num_hidden_layers": "2"}, "num_hidden_layers must be a positive whole number, not '2'"),
    "fraction": ({"vocab_size": 61.5}, "vocab_size must be a positive whole number, not 61.5"),
    "truth for a number": ({"intermediate_size": True}, "intermediate_size must be a positive whole number, not True"),
    "zero": ({"num_attention_heads": 0}, "num_attention_heads must be a positive whole number, not 0"),
    "negative": ({"max_position_embeddings": -1}, "max_position_embeddings must be a positive whole number, not -1"),
    "absurd depth": ({"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 1000"),
    "absurd width": ({"vocab_size": 2**31}, "vocab_size must be at most"),
    "not finite": ({"rms_norm_eps": float("inf")}, "rms_norm_eps must be a positive number, not inf"),
    "not a number": ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number, not nan"),
    "huge epsilon": ({"rms_norm_eps": 2}, "norm_eps must lie between 0 and 1"),
    "number for truth": ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false, not 1"),
    "heads do not divide": ({"num_key_value_heads": 3}, r"num_attention_heads \(4\) must be a multiple of num_key_val"),
    "odd head": ({"head_dim": 5}, "head_dim must be even"),
    "no head size": ({"head_dim": None, "hidden_size": 26}, "or head_dim must be given"),
    "activation": ({"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu', which is not supported"),
    "quantized": ({"quantization_config": {"bits": 4}}, "quantization_config asks for quantized weights"),
    "rope type": ({"rope_scaling": {"rope_type": "ntk"}}, "rope_scaling.rope_type is 'ntk', which is not supported"),
    "old rope type": ({"rope_scaling": {"type": "mrope"}}, "rope_scaling.type is 'mrope', which is not supported"),
    "rope field missing": (
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
        "rope_parameters.low_freq_factor is missing",
    ),
    "rope factors": ({"rope_scaling": {"type": "llama3", **LLAMA3, "low_freq_factor": 4.0}}, "low_freq_factor <"),
    "rope is a list": ({"rope_scaling": [1]}, r"rope_scaling must be an object, not \[1\]"),
    "partial rope": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, **changes)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ("[1]", "must hold a JSON object"), ("\udcff", "not valid JSON"), (None, "no such file")],
)
def test_refuses_a_file_that_is_no_config(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [7, 9]}, {"eos_token_id": 2}, (7, 9)),
        ({"eos_token_id": 7}, {"eos_token_id": 2}, (7,)),
        ({"eos_token_id": None}, {"eos_token_id": 2}, (2,)),
        (None, {"eos_token_id": [2, 3]}, (2, 3)),
        (None, {"text_config": {"eos_token_id": 4}}, (4,)),
        (None, {}, ()),
    ],
)
def test_end_of_sequence_tokens(
    tmp_path: Path, generation: dict[str, Any] | None, config: dict[str, Any], expected: tuple[int, ...]
) -> None:
    paths = [tmp_path / "generation_config.json", tmp_path / "config.json"]
    if generation is not None:
        paths[0].write_text(json.dumps(generation))
    paths[1].write_text(json.dumps(config))
    assert read_eos_token_ids(paths, 10) == expected


@pytest.mark.parametrize("value", [10, [2, 10], -1, "2", [[2]], 2.0, True])
def test_refuses_end_of_sequence_tokens_that_are_none(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ConfigError, match=r"generation_config\.json: eos_token_id"):
        read_eos_token_ids([path], 10)
