"""Shapes of prefill chunks that LLMs really have, for tests and benchmarks."""

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


SHAPES: Mapping[str, PrefillShape] = MappingProxyType(
    {
        "llama-125m, 4 prompts of 128": PrefillShape((0,) * 4, (128,) * 4, 12, 12, 64),
        "llama-125m, 512 rows": PrefillShape((0,), (512,), 12, 12, 64),
        "llama-125m, 512 rows after 1536": PrefillShape((1536,), (512,), 12, 12, 64),
        "llama-8b, 512 rows after 1536": PrefillShape((1536,), (512,), 32, 8, 128),
    }
)
