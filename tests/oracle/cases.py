"""The awkward small models on which muxjax and Hugging Face transformers must agree.

Weights are drawn from seeds on both sides, so that golden files hold none. Imports nothing but NumPy, because both
sides use it.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

GENERATED = 64
VOCABULARY = 101  # of most cases, so that their samplers are compiled once

# What a case that does not say it has.
DEFAULTS: Mapping[str, Any] = {"model_type": "llama", "generated": GENERATED, "use_cache": True}

_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

_DYNAMIC_ROPE = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
_YARN_ROPE = {
    "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
_PHI3 = {"hidden_size": 48, "intermediate_size": 76, "num_hidden_layers": 2}
_GEMMA3 = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 24, "query_pre_attn_scalar": 20,
    "sliding_window": 10, "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
_SIGHT = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
_PART = {"vocab_size": VOCABULARY, "max_position_embeddings": 512, "eos_token_id": None, "bos_token_id": None}
_SMALL = {"hidden_size": 48, "intermediate_size": 60, "num_hidden_layers": 2}
_GRANITE = {
    **_SMALL, "embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.6,
    "logits_scaling": 0.7,
}  # fmt: skip
_QWEN3_MOE = {
    "hidden_size": 40, "intermediate_size": 56, "moe_intermediate_size": 20, "head_dim": 12, "num_experts": 6,
    "num_experts_per_tok": 3,
}  # fmt: skip


def _heads(queries: int, keys: int) -> dict[str, int]:
    return {"num_attention_heads": queries, "num_key_value_heads": keys}


def _longrope(rotated: int) -> dict[str, Any]:
    """Factors that differ for every rotated pair, and between short and long sequences."""
    pairs = range(rotated // 2)
    return {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1 + pair / 10 for pair in pairs],
        "long_factor": [1.5 + pair for pair in pairs],
    }


CASES: Mapping[str, Mapping[str, Any]] = {
    "one_query_per_kv_head": {
        "config": {
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 4,
        },
        "prompt_length": 12,
    },
    "three_queries_per_kv_head_of_20_tied": {
        "config": {
            "hidden_size": 48, "intermediate_size": 75, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20, "tie_word_embeddings": True,
        },
        "prompt_length": 23,
    },
    "eight_queries_on_one_kv_head_of_80": {
        "config": {
            "hidden_size": 56, "intermediate_size": 112, "num_hidden_layers": 2,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 80, "rms_norm_eps": 1e-3,
        },
        "prompt_length": 9,
    },
    "biases_everywhere_and_gelu": {
        "config": {
            "hidden_size": 40, "intermediate_size": 52, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True,
            "hidden_act": "gelu",
        },
        "prompt_length": 17,
    },
    "llama3_rope_past_its_original_context_tied": {
        "config": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "tie_word_embeddings": True,
            "rope_parameters": _LLAMA3_ROPE,
        },
        "prompt_length": 200,
    },
    "llama3_rope_untied_heads_wider_than_hidden": {
        "config": {
            "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 18, "rope_parameters": _LLAMA3_ROPE,
        },
        "prompt_length": 150,
    },
    "linear_rope": {
        "config": {
            "hidden_size": 48, "intermediate_size": 60, "num_hidden_layers": 2,
            "num_attention_heads": 3, "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.5},
        },
        "prompt_length": 40,
    },
    "dynamic_rope_within_its_original_context": {
        "config": {
            "hidden_size": 48, "intermediate_size": 60, "num_hidden_layers": 2,
            "num_attention_heads": 3, "num_key_value_heads": 3,
            "max_position_embeddings": 128, "rope_parameters": _DYNAMIC_ROPE,
        },
        "prompt_length": 40,
    },
    # With a cache, transformers turns each token it generates by other frequencies than its past.
    "dynamic_rope_past_its_original_context": {
        "config": {
            "hidden_size": 48, "intermediate_size": 60, "num_hidden_layers": 2,
            "num_attention_heads": 3, "num_key_value_heads": 1,
            "max_position_embeddings": 64, "rope_parameters": _DYNAMIC_ROPE,
        },
        "prompt_length": 100,
        "generated": 0,
    },
    "yarn_rope_with_magnitudes_and_no_truncation": {
        "config": {
            "hidden_size": 48, "intermediate_size": 60, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
            "rope_parameters": {
                **_YARN_ROPE, "mscale": 1.3, "mscale_all_dim": 0.7, "truncate": False, "beta_fast": 20, "beta_slow": 2,
            },
        },
        "prompt_length": 33,
    },
    "mistral_window_shorter_than_the_prompt": {
        "model_type": "mistral",
        "config": {
            "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20, "sliding_window": 13,
        },
        "prompt_length": 45,
    },
    "mistral_without_a_window": {
        "model_type": "mistral",
        "config": {
            "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 12, "sliding_window": None,
        },
        "prompt_length": 21,
    },
    "mistral_tied": {
        "model_type": "mistral",
        "config": {
            **_SMALL, **_heads(3, 3), "sliding_window": 9, "tie_word_embeddings": True,
        },
        "prompt_length": 28,
    },
    "qwen2_tied": {
        "model_type": "qwen2",
        "config": {
            "hidden_size": 48, "intermediate_size": 76, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True,
        },
        "prompt_length": 19,
    },
    "qwen2_window_in_its_later_layers": {
        "model_type": "qwen2",
        "config": {
            "hidden_size": 48, "intermediate_size": 76, "num_hidden_layers": 3,
            "num_attention_heads": 3, "num_key_value_heads": 3, "use_sliding_window": True, "sliding_window": 7,
            "max_window_layers": 1,
        },
        "prompt_length": 30,
    },
    "qwen2_eight_queries_and_yarn_rope_past_its_original_context": {
        "model_type": "qwen2",
        "config": {
            **_SMALL, **_heads(8, 1), "head_dim": 16, "rope_parameters": _YARN_ROPE,
        },
        "prompt_length": 90,
    },
    "qwen3_heads_wider_than_hidden": {
        "model_type": "qwen3",
        "config": {
            "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 24,
        },
        "prompt_length": 26,
    },
    "qwen3_tied_with_a_window_in_its_later_layer": {
        "model_type": "qwen3",
        "config": {
            **_SMALL, **_heads(2, 2), "head_dim": 12, "tie_word_embeddings": True, "use_sliding_window": True,
            "sliding_window": 8, "max_window_layers": 1,
        },
        "prompt_length": 27,
    },
    "qwen3_yarn_rope_past_its_original_context": {
        "model_type": "qwen3",
        "config": {
            **_SMALL, **_heads(6, 2), "head_dim": 16, "rope_parameters": _YARN_ROPE,
        },
        "prompt_length": 70,
    },
    "olmo2": {
        "model_type": "olmo2",
        "config": {
            "hidden_size": 48, "intermediate_size": 70, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2,
        },
        "prompt_length": 22,
    },
    "olmo2_tied": {
        "model_type": "olmo2",
        "config": {
            **_SMALL, **_heads(2, 2), "head_dim": 20, "tie_word_embeddings": True, "attention_bias": True,
        },
        "prompt_length": 17,
    },
    "olmo2_eight_queries_on_one_kv_head": {
        "model_type": "olmo2",
        "config": {
            **_SMALL, **_heads(8, 1),
        },
        "prompt_length": 25,
    },
    "olmo3_yarn_rope_and_windows": {
        "model_type": "olmo3",
        "config": {
            **_SMALL, **_heads(6, 2), "head_dim": 16, "sliding_window": 11, "max_position_embeddings": 256,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {**_YARN_ROPE, "rope_theta": 500_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500_000.0},
            },
        },
        "prompt_length": 60,
    },
    "olmo3_tied": {
        "model_type": "olmo3",
        "config": {
            **_SMALL, **_heads(8, 1), "tie_word_embeddings": True, "sliding_window": 9,
        },
        "prompt_length": 21,
    },
    "olmo3_one_query_per_kv_head": {
        "model_type": "olmo3",
        "config": {
            **_SMALL, **_heads(3, 3), "attention_bias": True, "sliding_window": 40, "num_hidden_layers": 4,
        },
        "prompt_length": 15,
    },
    "smollm3_tied": {
        "model_type": "smollm3",
        "config": {
            **_SMALL, **_heads(6, 2), "head_dim": 12, "no_rope_layer_interval": 2,
        },
        "prompt_length": 23,
    },
    "smollm3_window_where_nothing_is_rotated": {
        "model_type": "smollm3",
        "config": {
            **_SMALL, **_heads(8, 1), "tie_word_embeddings": False, "no_rope_layers": [0, 1],
            "use_sliding_window": True, "sliding_window": 7,
        },
        "prompt_length": 26,
    },
    "smollm3_one_query_per_kv_head": {
        "model_type": "smollm3",
        "config": {
            **_SMALL, **_heads(2, 2), "no_rope_layers": [1, 1], "attention_bias": True, "mlp_bias": True,
        },
        "prompt_length": 14,
    },
    "granite": {
        "model_type": "granite",
        "config": {
            **_GRANITE, **_heads(6, 2), "tie_word_embeddings": True,
        },
        "prompt_length": 24,
    },
    "granite_eight_queries_on_one_kv_head": {
        "model_type": "granite",
        "config": {
            **_GRANITE, **_heads(8, 1), "head_dim": 10, "attention_bias": True,
        },
        "prompt_length": 18,
    },
    "granite_one_query_per_kv_head": {
        "model_type": "granite",
        "config": {
            **_GRANITE, **_heads(3, 3), "mlp_bias": True,
        },
        "prompt_length": 11,
    },
    "starcoder2": {
        "model_type": "starcoder2",
        "config": {
            **_SMALL, **_heads(6, 2), "sliding_window": 13,
        },
        "prompt_length": 29,
    },
    "starcoder2_untied": {
        "model_type": "starcoder2",
        "config": {
            **_SMALL, **_heads(8, 1), "head_dim": 12, "tie_word_embeddings": False,
        },
        "prompt_length": 19,
    },
    "starcoder2_without_biases": {
        "model_type": "starcoder2",
        "config": {
            **_SMALL, **_heads(3, 3), "use_bias": False, "hidden_act": "gelu",
        },
        "prompt_length": 16,
    },
    "phi": {
        "model_type": "phi",
        "config": {
            **_SMALL, **_heads(3, 3), "partial_rotary_factor": 0.5,
        },
        "prompt_length": 20,
    },
    "phi_tied": {
        "model_type": "phi",
        "config": {
            **_SMALL, **_heads(6, 2), "partial_rotary_factor": 0.75, "tie_word_embeddings": True,
        },
        "prompt_length": 25,
    },
    "phi_eight_queries_on_one_kv_head": {
        "model_type": "phi",
        "config": {
            "hidden_size": 96, "intermediate_size": 60, "num_hidden_layers": 2, **_heads(8, 1),
            "partial_rotary_factor": 0.5, "rope_scaling": {"type": "linear", "factor": 2.0},
        },
        "prompt_length": 22,
    },
    "phi3_tied_short_of_its_original_context": {
        "model_type": "phi3",
        "config": {
            **_PHI3, **_heads(3, 3), "original_max_position_embeddings": 200, "max_position_embeddings": 512,
            "rope_parameters": _longrope(16), "tie_word_embeddings": True,
        },
        "prompt_length": 25,
    },
    "phi3_past_its_original_context_window_and_part_of_each_head_rotated": {
        "model_type": "phi3",
        "config": {
            "vocab_size": 79,
            **_PHI3, **_heads(3, 1), "original_max_position_embeddings": 32, "max_position_embeddings": 256,
            "rope_parameters": {**_longrope(12), "partial_rotary_factor": 0.75}, "sliding_window": 21,
        },
        "prompt_length": 50,
    },
    # Where transformers computes all keys anew; without a cache it does so for every token.
    "phi3_growing_past_its_original_context": {
        "model_type": "phi3",
        "config": {
            **_PHI3, **_heads(8, 1), "original_max_position_embeddings": 48, "max_position_embeddings": 256,
            "rope_parameters": _longrope(6),
        },
        "prompt_length": 25,
        "use_cache": False,
    },
    "gemma": {
        "model_type": "gemma",
        "config": {
            **_SMALL, **_heads(6, 2), "head_dim": 20,
        },
        "prompt_length": 21,
    },
    "gemma_untied": {
        "model_type": "gemma",
        "config": {
            **_SMALL, **_heads(2, 2), "head_dim": 24, "tie_word_embeddings": False, "attention_bias": True,
        },
        "prompt_length": 17,
    },
    "gemma_eight_queries_on_one_kv_head": {
        "model_type": "gemma",
        "config": {
            **_SMALL, **_heads(8, 1), "head_dim": 256,
        },
        "prompt_length": 13,
    },
    "gemma2_with_tight_caps_and_a_short_window": {
        "model_type": "gemma2",
        "config": {
            "vocab_size": 163,
            "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 3,
            "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20, "query_pre_attn_scalar": 24,
            "sliding_window": 9, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0,
        },
        "prompt_length": 31,
    },
    "gemma2_without_caps_untied": {
        "model_type": "gemma2",
        "config": {
            **_SMALL, **_heads(8, 1), "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 64,
            "attn_logit_softcapping": None, "final_logit_softcapping": None, "tie_word_embeddings": False,
        },
        "prompt_length": 14,
    },
    "gemma2_one_query_per_kv_head": {
        "model_type": "gemma2",
        "config": {
            **_SMALL, **_heads(3, 3), "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 12,
        },
        "prompt_length": 20,
    },
    "gemma3_with_two_ropes": {
        "model_type": "gemma3_text",
        "config": {
            **_GEMMA3, **_heads(8, 1), "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
        "prompt_length": 38,
    },
    "gemma3_one_query_per_kv_head_untied": {
        "model_type": "gemma3_text",
        "config": {
            **_GEMMA3, **_heads(2, 2), "tie_word_embeddings": False,
        },
        "prompt_length": 16,
    },
    "gemma3_text_of_a_model_that_sees": {
        "model_type": "gemma3",
        "config": {
            "text_config": {**_GEMMA3, **_heads(3, 1), **_PART}, "vision_config": _SIGHT, "mm_tokens_per_image": 4,
        },
        "prompt_length": 20,
    },
    "mistral3_text_of_a_model_that_sees": {
        "model_type": "mistral3",
        "config": {
            "text_config": {**_SMALL, **_heads(8, 1), **_PART, "model_type": "mistral", "sliding_window": None},
            "vision_config": {**_SIGHT, "model_type": "pixtral", "head_dim": 8}, "tie_word_embeddings": False,
        },
        "prompt_length": 23,
    },
    "mixtral": {
        "model_type": "mixtral",
        "config": {
            "hidden_size": 40, "intermediate_size": 36, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 5,
            "num_experts_per_tok": 2,
        },
        "prompt_length": 24,
    },
    "mixtral_with_a_window_and_one_expert_per_token": {
        "model_type": "mixtral",
        "config": {
            "hidden_size": 40, "intermediate_size": 36, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 4, "num_local_experts": 3,
            "num_experts_per_tok": 1, "sliding_window": 11,
        },
        "prompt_length": 27,
    },
    "mixtral_tied": {
        "model_type": "mixtral",
        "config": {
            **_SMALL, **_heads(8, 1), "num_local_experts": 4, "num_experts_per_tok": 2,
            "tie_word_embeddings": True,
        },
        "prompt_length": 19,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "config": {
            **_QWEN3_MOE, **_heads(6, 2), "num_hidden_layers": 2, "norm_topk_prob": True,
        },
        "prompt_length": 18,
    },
    "qwen3_moe_with_dense_layers": {
        "model_type": "qwen3_moe",
        "config": {
            "vocab_size": 95,
            **_QWEN3_MOE, **_heads(8, 1), "num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3],
            "tie_word_embeddings": True,
        },
        "prompt_length": 29,
    },
    "qwen3_moe_with_windows": {
        "model_type": "qwen3_moe",
        "config": {
            **_QWEN3_MOE, **_heads(3, 3), "num_hidden_layers": 2, "use_sliding_window": True, "sliding_window": 10,
        },
        "prompt_length": 23,
    },
    "gpt2": {
        "model_type": "gpt2",
        "config": {"vocab_size": 143, "n_embd": 60, "n_layer": 2, "n_head": 4, "n_positions": 128},
        "prompt_length": 33,
    },
    "gpt2_untied_relu_unscaled": {
        "model_type": "gpt2",
        "config": {
            "n_embd": 48, "n_layer": 2, "n_head": 3, "n_positions": 100, "n_inner": 52,
            "activation_function": "relu", "scale_attn_weights": False, "tie_word_embeddings": False,
        },
        "prompt_length": 15,
    },
    "opt": {
        "model_type": "opt",
        "config": {
            "hidden_size": 60, "ffn_dim": 52, "num_hidden_layers": 2, "num_attention_heads": 4,
            "word_embed_proj_dim": 60, "max_position_embeddings": 128,
        },
        "prompt_length": 24,
    },
    "opt_untied_without_biases": {
        "model_type": "opt",
        "config": {
            "hidden_size": 48, "ffn_dim": 52, "num_hidden_layers": 2, "num_attention_heads": 3, "enable_bias": False,
            "word_embed_proj_dim": 48, "max_position_embeddings": 96, "tie_word_embeddings": False,
        },
        "prompt_length": 18,
    },
    "gpt_neox": {
        "model_type": "gpt_neox",
        "config": {
            **_SMALL, "num_attention_heads": 4, "rotary_pct": 0.5,
        },
        "prompt_length": 22,
    },
    "gpt_neox_tied_one_after_the_other": {
        "model_type": "gpt_neox",
        "config": {
            **_SMALL, "num_attention_heads": 3, "use_parallel_residual": False, "tie_word_embeddings": True,
            "attention_bias": False,
        },
        "prompt_length": 26,
    },
}  # fmt: skip


def seeded_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A weight that depends only on its name, shape and the seed; scaled so that logits spread over several units."""
    # RandomState's streams are frozen, unlike those of NumPy's newer generators.
    values = np.random.RandomState(zlib.crc32(f"{seed} {name}".encode())).standard_normal(shape)
    if name.endswith("bias"):
        return (0.2 * values).astype(np.float32)
    if len(shape) == 1:
        return (1 + 0.2 * values).astype(np.float32)
    scale = 0.25 if "embed" in name else 1.5 / math.sqrt(shape[1])
    return (scale * values).astype(np.float32)


def seeded_prompt(length: int, vocab_size: int, seed: int) -> list[int]:
    """Uniform token ids."""
    return [int(token) for token in np.random.RandomState(seed).randint(vocab_size, size=length)]
