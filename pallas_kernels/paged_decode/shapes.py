"""Shapes of decode batches that LLMs really have, for tests and benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class DecodeShape:
    """One layer's decode batch: `sequences` sequences of `kv_len` tokens each, the new one counted."""

    sequences: int
    kv_len: int
    q_heads: int
    kv_heads: int
    head_dim: int


SHAPES: Mapping[str, DecodeShape] = MappingProxyType(
    {
        "llama-125m, batch 1": DecodeShape(1, 193, 12, 12, 64),
        "llama-125m, batch 8": DecodeShape(8, 193, 12, 12, 64),
        "llama-125m, batch 32": DecodeShape(32, 193, 12, 12, 64),
        "llama-8b, batch 4, 2k": DecodeShape(4, 2048, 32, 8, 128),
    }
)
