"""Every family's config.json: older and newer spellings, what is left out, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from muxjax.models.config import DecoderConfig
from muxjax.models.errors import ConfigError
from muxjax.models.huggingface import read_config
from muxjax.models.load import load_model
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_scaling import DynamicScaling, LinearScaling, LongRopeScaling, YarnScaling
from tests.models.checkpoints import TINY, read_golden, seeded_tensors, write_checkpoint

GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 61,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 32,
}
LONG = {"short_factor": [1.0, 1.5, 2.0], "long_factor": [2, 4, 8]}


def read(directory: Path, architecture: str, **changes: Any) -> DecoderConfig:
    fields = {**(GPT2 if architecture == "GPT2LMHeadModel" else TINY), "architectures": [architecture], **changes}
    given = {name: value for name, value in fields.items() if value != "left out"}
    (directory / "config.json").write_text(json.dumps(given))
    return read_config(directory / "config.json")[1]


@pytest.mark.parametrize(
    ("scaling", "expected", "max_context"),
    [
        ({"type": "linear", "factor": 4}, LinearScaling(4.0), 256),
        ({"rope_type": "dynamic", "factor": 2.0}, DynamicScaling(2.0, 64), 128),
        (
            {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
            YarnScaling(4.0, 32, 0.1 * np.log(4.0) + 1),
            128,
        ),
        ({"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.5}, YarnScaling(2.0, 64, 1.5), 128),
    ],
)
def test_both_spellings_of_scaled_rope(
    tmp_path: Path, scaling: dict[str, Any], expected: object, max_context: int
) -> None:
    """`rope_scaling` beside `rope_theta`, and `rope_parameters`."""
    kind = {"rope_type": scaling.get("rope_type", scaling.get("type"))}
    older = read(tmp_path, "LlamaForCausalLM", rope_theta=5e5, rope_scaling=scaling)
    newer = read(tmp_path, "LlamaForCausalLM", rope_parameters={**scaling, **kind, "rope_theta": 5e5})
    assert older == newer
    assert older.rope == RopeConfig(5e5, expected)
    assert older.max_context == max_context


@pytest.mark.parametrize("kind", [{"type": "su"}, {"type": "longrope"}, {"rope_type": "longrope"}])
def test_phi3_scales_by_two_sets_of_factors(tmp_path: Path, kind: dict[str, str]) -> None:
    config = read(tmp_path, "Phi3ForCausalLM", original_max_position_embeddings=16, rope_scaling={**kind, **LONG})
    magnitude = np.sqrt(1 + np.log(64 / 16) / np.log(16))
    assert config.rope == RopeConfig(10_000.0, LongRopeScaling((1.0, 1.5, 2.0), (2.0, 4.0, 8.0), 16, magnitude))
    assert (config.max_context, config.length_switch) == (64, 16)


@pytest.mark.parametrize(
    ("architecture", "window", "layers"),
    [
        ("MistralForCausalLM", {"sliding_window": 8}, (0, 1)),
        ("MistralForCausalLM", {"sliding_window": None}, ()),
        ("MistralForCausalLM", {}, (0, 1)),
        ("Qwen2ForCausalLM", {"sliding_window": 8, "max_window_layers": 1}, ()),
        ("Qwen2ForCausalLM", {"sliding_window": 8, "max_window_layers": 1, "use_sliding_window": True}, (1,)),
        ("Qwen2ForCausalLM", {"sliding_window": 8, "max_window_layers": 0, "use_sliding_window": True}, (0, 1)),
        ("Qwen3ForCausalLM", {"use_sliding_window": True}, ()),
        ("Gemma2ForCausalLM", {}, (0,)),
        ("Gemma2ForCausalLM", {"layer_types": ["full_attention", "sliding_attention"]}, (1,)),
        ("Gemma3ForCausalLM", {}, (0, 1)),
        ("Gemma3ForCausalLM", {"sliding_window_pattern": 2}, (0,)),
        ("Olmo3ForCausalLM", {}, (0, 1)),
        ("SmolLM3ForCausalLM", {"sliding_window": 8, "no_rope_layer_interval": 2}, ()),
        ("SmolLM3ForCausalLM", {"sliding_window": 8, "no_rope_layer_interval": 2, "use_sliding_window": True}, (1,)),
    ],
)
def test_which_layers_have_a_window(
    tmp_path: Path, architecture: str, window: dict[str, Any], layers: tuple[int, ...]
) -> None:
    config = read(tmp_path, architecture, **window)
    assert config.sliding_layers == layers
    if layers:
        assert config.sliding_window == window.get("sliding_window", 4096)


def test_a_null_is_no_cap_and_what_is_left_out_has_the_familys_default(tmp_path: Path) -> None:
    config = read(tmp_path, "Gemma2ForCausalLM", attn_logit_softcapping=None, head_dim="left out")
    assert (config.attention_soft_cap, config.logit_soft_cap, config.head_dim) == (None, 30.0, 256)
    assert config.tie_embeddings
    assert config.attention_scale == 256**-0.5


@pytest.mark.parametrize(
    "architecture",
    ["LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM", "GraniteForCausalLM"],
)
def test_a_null_where_transformers_works_out_the_size_of_heads(tmp_path: Path, architecture: str) -> None:
    """Whatever the family's own default."""
    config = read(tmp_path, architecture, num_key_value_heads=None, head_dim=None, rope_scaling=None)
    assert (config.num_kv_heads, config.head_dim) == (4, 6)


def test_gemmas_gelu_is_its_approximation(tmp_path: Path) -> None:
    for names in ({"hidden_act": "gelu"}, {"hidden_act": "gelu", "hidden_activation": None}, {}):
        assert read(tmp_path, "GemmaForCausalLM", **names).activation == "gelu_tanh"


@pytest.mark.parametrize(("layers", "unrotated"), [("left out", ()), ([0, 1], (0,)), ([1, 0, 1, 0], (1,))])
def test_smollm3_leaves_layers_unrotated(tmp_path: Path, layers: Any, unrotated: tuple[int, ...]) -> None:
    config = read(tmp_path, "SmolLM3ForCausalLM", no_rope_layers=layers)
    assert config.unrotated_layers == unrotated
    assert [layer.rope is None for layer in config.layers] == [layer in unrotated for layer in range(2)]


def test_olmo3_scales_only_the_rope_of_layers_that_see_everything(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.5}
    config = read(tmp_path, "Olmo3ForCausalLM", num_hidden_layers=4, rope_theta=5e5, rope_scaling=scaling)
    plain = RopeConfig(5e5)
    assert [layer.rope for layer in config.layers] == [plain] * 3 + [RopeConfig(5e5, YarnScaling(2.0, 64, 1.5))]


def test_gemma3_in_transformers_4_words(tmp_path: Path) -> None:
    """As the checkpoints of 2025 have it: most fields are left out, and both bases are fields of their own."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    scaling = {"factor": 8.0, "rope_type": "linear"}
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["Gemma3ForConditionalGeneration"],
                "text_config": {**text, "rope_scaling": scaling},
                "vision_config": {"hidden_size": 1152},
            }
        )
    )
    config = read_config(tmp_path / "config.json")[1]
    assert config.rope == RopeConfig(1e6, LinearScaling(8.0))
    assert config.sliding_rope == RopeConfig(10_000.0)
    assert (config.vocab_size, config.num_heads, config.num_kv_heads, config.head_dim) == (262_208, 8, 4, 256)
    assert (config.max_context, config.sliding_window) == (131_072, 1024)
    assert [layer for layer in range(34) if layer not in config.sliding_layers] == [5, 11, 17, 23, 29]


def test_gpt2_as_first_published(tmp_path: Path) -> None:
    """Saved without the head's prefix, and with the causal mask of every layer."""
    golden = read_golden("gpt2")
    tensors = seeded_tensors(golden["config"], golden["seed"])
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare |= {f"h.{layer}.attn.bias": np.ones((1, 1, 128, 128), np.float32) for layer in range(2)}
    first, now = (
        load_model(write_checkpoint(tmp_path / name, golden["config"], tensors), dtype=jnp.float32).decoder
        for name, tensors in (("first", bare), ("now", tensors))
    )
    np.testing.assert_array_equal(first.layers.attention.qkv[...], now.layers.attention.qkv[...])


@pytest.mark.parametrize(
    ("case", "renamed"),
    [
        ("opt", ("model.decoder.", "decoder.")),
        ("mistral3_text_of_a_model_that_sees", ("language_model.model.", "model.language_model.")),
        ("mistral3_text_of_a_model_that_sees", ("language_model.lm_head.", "lm_head.")),
        ("gpt_neox", ("embed_out.", "lm_head.")),
    ],
)
def test_tensors_by_their_other_names(tmp_path: Path, case: str, renamed: tuple[str, str]) -> None:
    golden = read_golden(case)
    tensors = seeded_tensors(golden["config"], golden["seed"])
    others = {name.replace(*renamed): tensor for name, tensor in tensors.items()}
    assert others.keys() != tensors.keys()
    model, same = (
        load_model(write_checkpoint(tmp_path / name, golden["config"], tensors), dtype=jnp.float32).decoder
        for name, tensors in (("ours", tensors), ("others", others))
    )
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(same))


REFUSED = {
    "window of a layer": (
        "Gemma2ForCausalLM",
        {"layer_types": ["sliding_attention", "chunked_attention"]},
        "layer_types holds 'chunked_attention', which is not supported",
    ),
    "kinds of too few layers": ("Gemma2ForCausalLM", {"layer_types": ["full_attention"]}, r"num_hidden_layers \(2\)"),
    "window switched off": (
        "Qwen3ForCausalLM",
        {"layer_types": ["full_attention", "sliding_attention"]},
        "layer_types names layers with a sliding window, but use_sliding_window is not set",
    ),
    "no window": ("Gemma2ForCausalLM", {"sliding_window": None}, "sliding_window of at least 1, not None"),
    "window of nothing": ("MistralForCausalLM", {"sliding_window": 0}, "sliding_window must be a positive whole"),
    "bidirectional": (
        "Gemma3ForCausalLM",
        {"use_bidirectional_attention": True},
        "use_bidirectional_attention is True, which is not supported",
    ),
    "activation": ("Gemma2ForCausalLM", {"hidden_activation": "tanh"}, "hidden_activation is 'tanh'"),
    "cap": ("Gemma2ForCausalLM", {"attn_logit_softcapping": -1}, "attn_logit_softcapping must be a positive number"),
    "quantized": ("Qwen2ForCausalLM", {"quantization_config": {"bits": 4}}, "quantization_config asks for quantized"),
    "quantized text part": (
        "Gemma3ForConditionalGeneration",
        {"quantization_config": {"bits": 4}, "text_config": TINY},
        "quantization_config asks for quantized",
    ),
    "no text part": ("Gemma3ForConditionalGeneration", {}, "text_config is missing"),
    "field of the text part": (
        "Gemma3ForConditionalGeneration",
        {"text_config": {**TINY, "hidden_size": "24"}},
        "text_config.hidden_size must be a positive whole number, not '24'",
    ),
    "too few factors": (
        "Phi3ForCausalLM",
        {"original_max_position_embeddings": 16, "rope_scaling": {"type": "longrope", **LONG, "short_factor": [1.0]}},
        "short_factor must hold a number for each of the 3 rotated pairs, not 1",
    ),
    "factors that are none": (
        "Phi3ForCausalLM",
        {"rope_scaling": {"type": "longrope", **LONG, "long_factor": [1, 2, "x"]}},
        "rope_scaling.long_factor must be a list of positive numbers",
    ),
    "partly rotated": ("Qwen2ForCausalLM", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    "odd part rotated": ("Phi3ForCausalLM", {"partial_rotary_factor": 0.5}, "rotate an even number of elements, not 3"),
    "no scaling factor": ("LlamaForCausalLM", {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing"),
    "shrinking": (
        "LlamaForCausalLM",
        {"rope_scaling": {"type": "dynamic", "factor": 0.5}},
        "factor must be at least 1",
    ),
    "more experts than there are": (
        "MixtralForCausalLM",
        {"num_local_experts": 2, "num_experts_per_tok": 3},
        "3 experts per token cannot be chosen from 2",
    ),
    "layers that are none": (
        "Qwen3MoeForCausalLM",
        {"mlp_only_layers": [-1]},
        "mlp_only_layers must be a list of whole",
    ),
    "norms of queries and keys": ("PhiForCausalLM", {"qk_layernorm": True, "head_dim": 8}, "qk_layernorm is True"),
    "norms after": ("OPTForCausalLM", {"do_layer_norm_before": False}, "do_layer_norm_before is False"),
    "embeddings of another width": ("OPTForCausalLM", {"word_embed_proj_dim": 12}, "word_embed_proj_dim is 12"),
    "rotation of too few layers": ("SmolLM3ForCausalLM", {"no_rope_layers": [1]}, "no_rope_layers must say of each"),
    "window of SmolLM3 switched off": (
        "SmolLM3ForCausalLM",
        {"layer_types": ["full_attention", "sliding_attention"]},
        "sliding layers need a sliding_window",
    ),
    "scaled by depth": (
        "GPT2LMHeadModel",
        {"scale_attn_by_inverse_layer_idx": True},
        "scale_attn_by_inverse_layer_idx is True, which is not supported",
    ),
    "cross-attention": ("GPT2LMHeadModel", {"add_cross_attention": True}, "add_cross_attention is True"),
    "heads of GPT-2": ("GPT2LMHeadModel", {"n_head": 5}, r"n_embd \(24\) must be a multiple of n_head \(5\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_by_name(tmp_path: Path, case: str) -> None:
    architecture, changes, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, architecture, **changes)
    assert str(tmp_path / "config.json") in str(caught.value)


def test_an_unknown_architecture_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'MambaForCausalLM' is not known") as caught:
        read(tmp_path, "MambaForCausalLM")
    for known in ("Llama", "Mistral", "Mixtral", "Qwen2", "Qwen3", "Qwen3Moe", "Gemma", "Phi", "OPT", "Granite"):
        assert f"{known}ForCausalLM" in str(caught.value)
    assert "GPT2LMHeadModel" in str(caught.value)
