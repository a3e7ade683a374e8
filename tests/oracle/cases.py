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

_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

CASES: Mapping[str, Mapping[str, Any]] = {
    "one_query_per_kv_head": {
        "config": {
            "vocab_size": 101, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 4,
        },
        "prompt_length": 12,
    },
    "three_queries_per_kv_head_of_20_tied": {
        "config": {
            "vocab_size": 257, "hidden_size": 48, "intermediate_size": 75, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20, "tie_word_embeddings": True,
        },
        "prompt_length": 23,
    },
    "eight_queries_on_one_kv_head_of_80": {
        "config": {
            "vocab_size": 131, "hidden_size": 56, "intermediate_size": 112, "num_hidden_layers": 2,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 80, "rms_norm_eps": 1e-3,
        },
        "prompt_length": 9,
    },
    "llama3_rope_past_its_original_context_tied": {
        "config": {
            "vocab_size": 149, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "tie_word_embeddings": True,
            "rope_parameters": _LLAMA3_ROPE,
        },
        "prompt_length": 200,
    },
    "llama3_rope_untied_heads_wider_than_hidden": {
        "config": {
            "vocab_size": 127, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 18, "rope_parameters": _LLAMA3_ROPE,
        },
        "prompt_length": 150,
    },
}  # fmt: skip


def seeded_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A weight that depends only on its name, shape and the seed; scaled so that logits spread over several units."""
    # RandomState's streams are frozen, unlike those of NumPy's newer generators.
    values = np.random.RandomState(zlib.crc32(f"{seed} {name}".encode())).standard_normal(shape)
    if len(shape) == 1:
        return (1 + 0.2 * values).astype(np.float32)
    scale = 0.25 if "embed" in name else 1.5 / math.sqrt(shape[1])
    return (scale * values).astype(np.float32)


def seeded_prompt(length: int, vocab_size: int, seed: int) -> list[int]:
    """Uniform token ids."""
    return [int(token) for token in np.random.RandomState(seed).randint(vocab_size, size=length)]
