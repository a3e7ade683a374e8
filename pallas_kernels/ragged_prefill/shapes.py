"""Shapes of prefill chunks that LLMs really have, for tests, tuning and benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class PrefillShape:
    """One layer's chunk: sequence s has `past[s]` tokens in the pool and `rows[s]` new ones."""

    past: tuple[int, ...]
    rows: tuple[int, ...]
    q_heads: int
    kv_heads: int
    head_dim: int
    sliding_window: int | None = None
    soft_cap: float | None = None


SHAPES: Mapping[str, PrefillShape] = MappingProxyType(
    {
        "llama-125m, 4 prompts of 128": PrefillShape((0,) * 4, (128,) * 4, 12, 12, 64),
        "llama-125m, 512 rows": PrefillShape((0,), (512,), 12, 12, 64),
        "llama-125m, 512 rows after 1536": PrefillShape((1536,), (512,), 12, 12, 64),
        "llama-8b, 512 rows after 1536": PrefillShape((1536,), (512,), 32, 8, 128),
    }
)

GPU_SHAPES: Mapping[str, PrefillShape] = MappingProxyType(
    {
        "llama-2-7b, 2k rows": PrefillShape((0,), (2048,), 32, 32, 128),
        "llama-2-13b, 512 rows after 1536": PrefillShape((1536,), (512,), 40, 40, 128),
        "llama-3-8b, 8 prompts of 256": PrefillShape((0,) * 8, (256,) * 8, 32, 8, 128),
        "llama-3-8b, 8k rows": PrefillShape((0,), (8192,), 32, 8, 128),
        "llama-3-8b, 512 rows after 7680": PrefillShape((7680,), (512,), 32, 8, 128),
        "llama-3.2-1b, 2k rows": PrefillShape((0,), (2048,), 32, 8, 64),
        "qwen2.5-0.5b, 2k rows": PrefillShape((0,), (2048,), 14, 2, 64),
        "gemma-2b, 2k rows": PrefillShape((0,), (2048,), 8, 1, 256),
        "gemma-2-9b, 512 rows after 7680": PrefillShape(
            (7680,), (512,), 16, 8, 256, sliding_window=4096, soft_cap=50.0
        ),
    }
)
"""What LLMs ask of a GPU: compiled for, tuned and measured there; too much to interpret on a CPU."""
