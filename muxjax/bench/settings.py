"""What a run measures, and how much of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

LLAMA_125M: Mapping[str, object] = MappingProxyType(
    {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 32_000,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "head_dim": 64,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "bos_token_id": None,
        "eos_token_id": None,
    }
)
"""A Llama of GPT-2's size in Hugging Face's terms: 134,105,856 parameters, of which 84,953,088 are in the layers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One run's parameters.

    Attributes:
        model: the config.json of the random model.
        dtypes: of its weights, keys and values.
        concurrency: requests at once, of the throughput part.
        batch_sizes: of the overhead part.
        colocated_llms: LLMs in one unit, and `colocated_requests` at once for each of them.
        prompt_tokens: tokens of every prompt.
        output_tokens: tokens of every completion.
        rounds: how often everything is measured, engines in turn; figures are medians over rounds.
        schedule_steps: steps of the scheduler part.
        schedule_llms: LLMs of the scheduler part, with `schedule_sequences` running sequences together.
        frontend_streams: streams at once of the frontends part, with `frontend_tokens` tokens each.
        checkpoint_layers: of the checkpoint part's model, which is else as `model`.
        quality_texts: held-out texts of each demo model, of the quantization part.
        serve_config: what the startup part serves; None is the demo models.
        torch_python: an interpreter with PyTorch and transformers, and llama-cpp-python if there is any.
    """

    model: Mapping[str, object] = field(default_factory=lambda: LLAMA_125M)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    concurrency: tuple[int, ...] = (1, 8, 32)
    batch_sizes: tuple[int, ...] = (8, 32)
    colocated_llms: int = 3
    colocated_requests: int = 8
    prompt_tokens: int = 128
    output_tokens: int = 128
    rounds: int = 3
    schedule_steps: int = 2000
    schedule_llms: int = 8
    schedule_sequences: int = 256
    frontend_streams: int = 64
    frontend_tokens: int = 1000
    checkpoint_layers: int = 36
    quality_texts: int = 32
    serve_config: Path | None = None
    torch_python: Path | None = None

    def quick(self) -> Self:
        """A run that shows that everything works; its figures say little."""
        return replace(
            self,
            dtypes=self.dtypes[:1],
            concurrency=(1, 8),
            batch_sizes=(8,),
            colocated_requests=4,
            prompt_tokens=32,
            output_tokens=16,
            rounds=1,
            schedule_steps=200,
            checkpoint_layers=2,
            quality_texts=2,
            frontend_tokens=100,
        )
