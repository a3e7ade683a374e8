"""What published checkpoints say of themselves: their size, and the fields of their config.json as they spell them.

What does not bear on the model, such as dropout, is left out. Imports nothing of muxjax's or of the oracle's: both use
it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple


class Published(NamedTuple):
    """A checkpoint.

    Attributes:
        parameters: of the language model, as published; tied embeddings count once.
        config: its config.json.
    """

    parameters: int
    config: Mapping[str, Any]


_OLD_LLAMA = {
    "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "tie_word_embeddings": False,
    "torch_dtype": "float16", "vocab_size": 32000,
}  # fmt: skip
_LLAMA = {
    **_OLD_LLAMA, "attention_bias": False, "max_position_embeddings": 131072, "mlp_bias": False, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "torch_dtype": "bfloat16", "vocab_size": 128256,
}  # fmt: skip
_LLAMA3_8B = {**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8, "rope_scaling": None}
_LLAMA3_ROPE = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip
_LLAMA32_1B = {
    **_LLAMA, "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_key_value_heads": 8, "rope_scaling": {**_LLAMA3_ROPE, "factor": 32.0}, "tie_word_embeddings": True,
    "eos_token_id": [128001, 128008, 128009],
}  # fmt: skip
_SMOLLM2 = {
    **_LLAMA, "is_llama_config": True, "max_position_embeddings": 8192, "rope_interleaved": False,
    "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True, "vocab_size": 49152,
}  # fmt: skip
_YI = {
    **_OLD_LLAMA, "max_position_embeddings": 4096, "num_key_value_heads": 4, "pad_token_id": 0, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "rope_theta": 5000000.0, "vocab_size": 64000,
}  # fmt: skip
_QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": 3584,
    "intermediate_size": 18944, "max_position_embeddings": 131072, "max_window_layers": 28, "model_type": "qwen2",
    "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "use_mrope": False, "use_sliding_window": False, "vocab_size": 152064,
}  # fmt: skip
_QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 12288, "max_position_embeddings": 40960, "max_window_layers": 36,
    "model_type": "qwen3", "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
_MISTRAL = {
    "architectures": ["MistralForCausalLM"], "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 32000,
}  # fmt: skip
_PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "attention_bias": False, "hidden_act": "silu", "hidden_size": 3072,
    "intermediate_size": 8192, "max_position_embeddings": 131072, "model_type": "phi3", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 262144,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 32064,
}  # fmt: skip
_LONGROPE = {"long_factor": [1.5] * 48, "short_factor": [1.0] * 48}  # as many factors as published, not their values
_OLMO2 = {
    "architectures": ["Olmo2ForCausalLM"], "attention_bias": False, "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "olmo2", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 500000, "tie_word_embeddings": False, "torch_dtype": "float32", "vocab_size": 100352,
}  # fmt: skip
_GEMMA = {
    "architectures": ["GemmaForCausalLM"], "attention_bias": False, "head_dim": 256, "hidden_act": "gelu",
    "hidden_activation": None, "hidden_size": 2048, "intermediate_size": 16384, "max_position_embeddings": 8192,
    "model_type": "gemma", "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000.0, "torch_dtype": "bfloat16",
    "vocab_size": 256000,
}  # fmt: skip
_GEMMA2 = {
    "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 3584,
    "intermediate_size": 14336, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 16,
    "num_hidden_layers": 42, "num_key_value_heads": 8, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096, "torch_dtype": "float32",
    "vocab_size": 256000,
}  # fmt: skip
_GEMMA3_1B = {
    "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": None,
    "cache_implementation": "hybrid", "final_logit_softcapping": None, "eos_token_id": [1, 106], "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
    "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
    "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
    "sliding_window_pattern": 6, "torch_dtype": "bfloat16", "vocab_size": 262144,
}  # fmt: skip
_GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"], "eos_token_id": [1, 106], "image_token_index": 262144,
    "mm_tokens_per_image": 256, "model_type": "gemma3", "torch_dtype": "bfloat16",
    "vision_config": {
        "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model",
        "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False,
    },
}  # fmt: skip
_GPT2 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
    "summary_use_proj": True, "vocab_size": 50257,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip
_GRANITE = {
    **_LLAMA, "architectures": ["GraniteForCausalLM"], "attention_multiplier": 0.015625, "embedding_multiplier": 12.0,
    "hidden_size": 2048, "intermediate_size": 8192, "logits_scaling": 8.0, "model_type": "granite",
    "num_hidden_layers": 40, "num_key_value_heads": 8, "residual_multiplier": 0.22, "rope_scaling": None,
    "rope_theta": 5000000.0, "tie_word_embeddings": True, "vocab_size": 49155,
}  # fmt: skip
_STARCODER2 = {
    "architectures": ["Starcoder2ForCausalLM"], "hidden_act": "gelu_pytorch_tanh", "hidden_size": 3072,
    "intermediate_size": 12288, "max_position_embeddings": 16384, "mlp_type": "default", "model_type": "starcoder2",
    "norm_epsilon": 1e-05, "norm_type": "layer_norm", "num_attention_heads": 24, "num_hidden_layers": 30,
    "num_key_value_heads": 2, "rope_theta": 999999.4420358813, "sliding_window": 4096, "use_bias": True,
    "vocab_size": 49152,
}  # fmt: skip
_PHI = {
    "architectures": ["PhiForCausalLM"], "hidden_act": "gelu_new", "hidden_size": 2560, "intermediate_size": 10240,
    "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "phi", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": None, "partial_rotary_factor": 0.4, "qk_layernorm": False,
    "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "float16",
    "vocab_size": 51200,
}  # fmt: skip
_OPT = {
    "_remove_final_layer_norm": False, "activation_dropout": 0.0, "activation_function": "relu",
    "architectures": ["OPTForCausalLM"], "do_layer_norm_before": True, "ffn_dim": 3072, "hidden_size": 768,
    "max_position_embeddings": 2048, "model_type": "opt", "num_attention_heads": 12, "num_hidden_layers": 12,
    "pad_token_id": 1, "prefix": "</s>", "torch_dtype": "float16", "vocab_size": 50272, "word_embed_proj_dim": 768,
}  # fmt: skip
_PYTHIA = {
    "architectures": ["GPTNeoXForCausalLM"], "hidden_act": "gelu", "hidden_size": 512, "intermediate_size": 2048,
    "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 8,
    "num_hidden_layers": 6, "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False,
    "torch_dtype": "float16", "use_parallel_residual": True, "vocab_size": 50304,
}  # fmt: skip
_GPT2_LARGER = {**_GPT2, "n_special": 0, "output_past": True, "predict_special_tokens": True}

PUBLISHED: Mapping[str, Published] = {
    "Llama-7B": Published(6_738_415_616, {
        **_OLD_LLAMA, "architectures": ["LLaMAForCausalLM"], "max_position_embeddings": 2048,
        "max_sequence_length": 2048, "pad_token_id": -1, "rms_norm_eps": 1e-06, "use_cache": True,
    }),
    "Llama-2-7B": Published(6_738_415_616, {
        **_OLD_LLAMA, "max_position_embeddings": 4096, "num_key_value_heads": 32, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": None,
    }),
    "Vicuna-7B-v1.5-16k": Published(6_738_415_616, {
        **_OLD_LLAMA, "max_position_embeddings": 4096, "max_sequence_length": 16384, "num_key_value_heads": 32,
        "pad_token_id": 0, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 4.0, "type": "linear"},
    }),
    "CodeLlama-7B": Published(6_738_546_688, {
        **_OLD_LLAMA, "max_position_embeddings": 16384, "num_key_value_heads": 32, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 1000000, "torch_dtype": "bfloat16",
        "vocab_size": 32016,
    }),
    "Llama-3-8B": Published(8_030_261_248, {**_LLAMA3_8B, "max_position_embeddings": 8192}),
    "Llama-3.1-8B": Published(8_030_261_248, {**_LLAMA3_8B, "rope_scaling": _LLAMA3_ROPE}),
    "Llama-3.3-70B": Published(70_553_706_496, {
        **_LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80,
        "num_key_value_heads": 8, "head_dim": 128, "rope_scaling": _LLAMA3_ROPE,
    }),
    "Llama-3.2-1B": Published(1_235_814_400, _LLAMA32_1B),
    "Llama-3.2-3B": Published(3_212_749_824, {
        **_LLAMA32_1B, "head_dim": 128, "hidden_size": 3072, "num_attention_heads": 24, "num_hidden_layers": 28,
    }),
    "TinyLlama-1.1B": Published(1_100_048_384, {
        **_OLD_LLAMA, "attention_bias": False, "hidden_size": 2048, "intermediate_size": 5632,
        "max_position_embeddings": 2048, "num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
    }),
    "Yi-6B": Published(6_061_035_520, _YI),
    "Yi-34B": Published(34_388_917_248, {
        **_YI, "hidden_size": 7168, "intermediate_size": 20480, "num_attention_heads": 56, "num_hidden_layers": 60,
        "num_key_value_heads": 8,
    }),
    "SmolLM2-135M": Published(134_515_008, {
        **_SMOLLM2, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_hidden_layers": 30,
        "num_key_value_heads": 3,
    }),
    "SmolLM2-1.7B": Published(1_711_376_384, {
        **_SMOLLM2, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_key_value_heads": 32,
        "rope_theta": 130000, "transformers.js_config": {"dtype": "q4"},
    }),
    "DeepSeek-LLM-7B": Published(6_910_365_696, {
        **_OLD_LLAMA, "max_position_embeddings": 4096, "num_hidden_layers": 30, "num_key_value_heads": 32,
        "pretraining_tp": 1, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000.0, "vocab_size": 102400,
    }),
    "DeepSeek-Coder-6.7B": Published(6_740_512_768, {
        **_OLD_LLAMA, "max_position_embeddings": 16384, "num_key_value_heads": 32, "pretraining_tp": 1,
        "rms_norm_eps": 1e-06, "rope_scaling": {"factor": 4.0, "type": "linear"}, "rope_theta": 100000,
        "vocab_size": 32256,
    }),
    "DeepSeek-R1-Distill-Qwen-1.5B": Published(1_777_088_000, {
        **_QWEN2, "hidden_size": 1536, "intermediate_size": 8960, "max_window_layers": 21, "num_attention_heads": 12,
        "num_key_value_heads": 2, "rope_theta": 10000, "sliding_window": 4096, "vocab_size": 151936,
    }),
    "Qwen1.5-0.5B": Published(463_987_712, {
        **_QWEN2, "hidden_size": 1024, "intermediate_size": 2816, "max_position_embeddings": 32768,
        "max_window_layers": 21, "num_attention_heads": 16, "num_hidden_layers": 24, "num_key_value_heads": 16,
        "sliding_window": 32768, "tie_word_embeddings": True, "vocab_size": 151936,
    }),
    "Qwen2.5-0.5B": Published(494_032_768, {
        **_QWEN2, "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "max_window_layers": 24, "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "sliding_window": 32768, "tie_word_embeddings": True, "vocab_size": 151936,
    }),
    "Qwen2.5-7B": Published(7_615_616_512, _QWEN2),
    "Qwen2.5-7B for 131,072 tokens": Published(7_615_616_512, {
        **_QWEN2, "max_position_embeddings": 32768,
        "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
    }),
    "Qwen3-0.6B": Published(596_049_920, {
        **_QWEN3, "hidden_size": 1024, "intermediate_size": 3072, "max_window_layers": 28, "num_attention_heads": 16,
        "num_hidden_layers": 28, "tie_word_embeddings": True,
    }),
    "Qwen3-8B": Published(8_190_735_360, _QWEN3),
    "Qwen3-32B": Published(32_762_123_264, {
        **_QWEN3, "hidden_size": 5120, "intermediate_size": 25600, "max_window_layers": 64, "num_attention_heads": 64,
        "num_hidden_layers": 64,
    }),
    "Qwen3-30B-A3B": Published(30_532_122_624, {
        **_QWEN3, "architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 1, "hidden_size": 2048,
        "intermediate_size": 6144, "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe",
        "moe_intermediate_size": 768, "norm_topk_prob": True, "num_experts": 128, "num_experts_per_tok": 8,
        "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": False, "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.001,
    }),
    "Mistral-7B-v0.1": Published(7_241_732_096, _MISTRAL),
    "Mistral-7B-v0.3": Published(7_248_023_552, {
        **_MISTRAL, "rope_theta": 1000000.0, "sliding_window": None, "vocab_size": 32768,
    }),
    "Mistral-Nemo-12B": Published(12_247_782_400, {
        **_MISTRAL, "head_dim": 128, "hidden_size": 5120, "max_position_embeddings": 1024000, "num_hidden_layers": 40,
        "rope_theta": 1000000.0, "sliding_window": None, "vocab_size": 131072,
    }),
    "Mistral-Small-24B": Published(23_572_403_200, {
        **_MISTRAL, "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32768, "num_hidden_layers": 40,
        "rope_theta": 100000000.0, "sliding_window": None, "vocab_size": 131072,
    }),
    "Mixtral-8x7B": Published(46_702_792_704, {
        **_MISTRAL, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_experts_per_tok": 2,
        "num_local_experts": 8, "output_router_logits": False, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
        "sliding_window": None,
    }),
    "Phi-3-mini-4k": Published(3_821_079_552, {**_PHI3, "max_position_embeddings": 4096, "sliding_window": 2047}),
    "Phi-3.5-mini": Published(3_821_079_552, {**_PHI3, "rope_scaling": {**_LONGROPE, "type": "longrope"}}),
    "Phi-3-medium-128k": Published(13_960_238_080, {
        **_PHI3, "hidden_size": 5120, "intermediate_size": 17920, "num_attention_heads": 40, "num_hidden_layers": 40,
        "num_key_value_heads": 10, "sliding_window": 131072,
        "rope_scaling": {"long_factor": [1.5] * 64, "short_factor": [1.0] * 64, "type": "longrope"},
    }),
    "Phi-4-mini": Published(3_836_021_760, {
        **_PHI3, "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False,
        "num_attention_heads": 24, "num_key_value_heads": 8, "partial_rotary_factor": 0.75, "vocab_size": 200064,
        "rope_scaling": {**_LONGROPE, "type": "longrope"}, "tie_word_embeddings": True,
    }),
    "Phi-4": Published(14_659_507_200, {
        **_PHI3, "hidden_size": 5120, "intermediate_size": 17920, "max_position_embeddings": 16384,
        "num_attention_heads": 40, "num_hidden_layers": 40, "num_key_value_heads": 10,
        "original_max_position_embeddings": 16384, "rope_theta": 250000, "sliding_window": None, "vocab_size": 100352,
    }),
    "OLMo-2-1B": Published(1_484_916_736, {
        **_OLMO2, "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 16, "num_hidden_layers": 16,
        "num_key_value_heads": 16,
    }),
    "OLMo-2-7B": Published(7_298_617_344, _OLMO2),
    "OLMo-2-32B": Published(32_234_279_936, {
        **_OLMO2, "hidden_size": 5120, "intermediate_size": 27648, "num_attention_heads": 40, "num_hidden_layers": 64,
        "num_key_value_heads": 8,
    }),
    "Gemma-2-2B": Published(2_614_341_888, {
        **_GEMMA2, "hidden_size": 2304, "intermediate_size": 9216, "num_attention_heads": 8, "num_hidden_layers": 26,
        "num_key_value_heads": 4,
    }),
    "Gemma-2-9B": Published(9_241_705_984, _GEMMA2),
    "Gemma-2-27B": Published(27_227_128_320, {
        **_GEMMA2, "head_dim": 128, "hidden_size": 4608, "intermediate_size": 36864, "num_attention_heads": 32,
        "num_hidden_layers": 46, "num_key_value_heads": 16, "query_pre_attn_scalar": 144,
    }),
    "Gemma-3-270M": Published(268_098_176, {
        **_GEMMA3_1B, "_sliding_window_pattern": 6, "hidden_size": 640, "intermediate_size": 2048,
        "layer_types": [*["sliding_attention"] * 5, "full_attention"] * 3, "num_hidden_layers": 18,
        "use_bidirectional_attention": False, "rope_local_base_freq": 10000.0, "rope_theta": 1000000.0,
    }),
    "Gemma-3-1B": Published(999_885_952, _GEMMA3_1B),
    "Gemma-3-4B": Published(3_880_263_168, {
        **_GEMMA3, "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
        },
    }),
    "Gemma-3-27B": Published(27_009_346_304, {
        **_GEMMA3, "text_config": {
            "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "model_type": "gemma3_text",
            "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16,
            "query_pre_attn_scalar": 168, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
    }),
    "DistilGPT-2": Published(81_912_576, {**_GPT2, "_num_labels": 1, "n_layer": 6}),
    "GPT-2": Published(124_439_808, _GPT2),
    "GPT-2 medium": Published(354_823_168, {**_GPT2_LARGER, "n_embd": 1024, "n_head": 16, "n_layer": 24}),
    "GPT-2 large": Published(774_030_080, {**_GPT2_LARGER, "n_embd": 1280, "n_head": 20, "n_layer": 36}),
    "GPT-2 XL": Published(1_557_611_200, {**_GPT2_LARGER, "n_embd": 1600, "n_head": 25, "n_layer": 48}),
    "Gemma-2B": Published(2_506_172_416, _GEMMA),
    "Gemma-7B": Published(8_537_680_896, {
        **_GEMMA, "hidden_size": 3072, "intermediate_size": 24576, "num_attention_heads": 16, "num_hidden_layers": 28,
        "num_key_value_heads": 16,
    }),
    "OLMo-3-7B": Published(7_298_011_136, {
        **_OLMO2, "architectures": ["Olmo3ForCausalLM"],
        "layer_types": [*["sliding_attention"] * 3, "full_attention"] * 8,
        "max_position_embeddings": 65536, "model_type": "olmo3", "sliding_window": 4096, "vocab_size": 100278,
        "rope_scaling": {
            "attention_factor": 1.2079441541679836, "beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0,
            "original_max_position_embeddings": 8192, "rope_type": "yarn",
        },
    }),
    "SmolLM3-3B": Published(3_075_098_624, {
        **_LLAMA, "architectures": ["SmolLM3ForCausalLM"], "hidden_size": 2048, "layer_types": ["full_attention"] * 36,
        "max_position_embeddings": 65536, "max_window_layers": 28, "model_type": "smollm3",
        "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9, "num_attention_heads": 16,
        "num_hidden_layers": 36, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 5000000.0, "sliding_window": None, "tie_word_embeddings": True, "use_sliding_window": False,
    }),
    "Granite-3.1-2B": Published(2_533_531_648, _GRANITE),
    "Granite-3.1-8B": Published(8_170_848_256, {
        **_GRANITE, "attention_multiplier": 0.0078125, "hidden_size": 4096, "intermediate_size": 12800,
        "logits_scaling": 16.0, "rope_theta": 10000000.0,
    }),
    "StarCoder2-3B": Published(3_030_371_328, _STARCODER2),
    "StarCoder2-7B": Published(7_173_923_840, {
        **_STARCODER2, "hidden_size": 4608, "intermediate_size": 18432, "num_attention_heads": 36,
        "num_hidden_layers": 32, "num_key_value_heads": 4, "rope_theta": 1000000,
    }),
    "Phi-1.5": Published(1_418_270_720, {
        **_PHI, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "partial_rotary_factor": 0.5,
    }),
    "Phi-2": Published(2_779_683_840, _PHI),
    "OPT-125M": Published(125_239_296, _OPT),
    "OPT-6.7B": Published(6_658_473_984, {
        **_OPT, "ffn_dim": 16384, "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
        "word_embed_proj_dim": 4096,
    }),
    "Pythia-70M": Published(70_426_624, _PYTHIA),
    "GPT-NeoX-20B": Published(20_554_567_680, {
        **_PYTHIA, "attention_probs_dropout_prob": 0, "hidden_act": "gelu_fast", "hidden_size": 6144,
        "intermediate_size": 24576, "num_attention_heads": 64, "num_hidden_layers": 44, "vocab_size": 50432,
    }),
    "Mistral-Small-3.1-24B": Published(23_572_403_200, {
        "architectures": ["Mistral3ForConditionalGeneration"], "image_token_index": 10, "model_type": "mistral3",
        "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": 2,
        "text_config": {
            "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120, "intermediate_size": 32768,
            "max_position_embeddings": 131072, "model_type": "mistral", "num_attention_heads": 32,
            "num_hidden_layers": 40, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000000.0,
            "sliding_window": None, "vocab_size": 131072,
        },
        "vision_config": {
            "head_dim": 64, "hidden_act": "silu", "hidden_size": 1024, "image_size": 1540, "intermediate_size": 4096,
            "model_type": "pixtral", "num_attention_heads": 16, "num_channels": 3, "num_hidden_layers": 24,
            "patch_size": 14, "rope_theta": 10000.0,
        },
        "tie_word_embeddings": False, "vision_feature_layer": -1,  # the first: for transformers 5, which would tie them
    }),
}  # fmt: skip


def numberless(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[Any]]:
    """The shapes and how many tensors have them, by names with stars for the numbers of layers and experts."""
    counted = Counter((re.sub(r"\.\d+\.", ".*.", name), shape) for name, shape in shapes.items())
    tensors: dict[str, list[Any]] = {}
    for (name, shape), count in counted.items():
        tensors.setdefault(name, []).append([count, list(shape)])
    return tensors
