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

GPU_SHAPES: Mapping[str, DecodeShape] = MappingProxyType(
    {
        "llama-2-7b, batch 32, 2k": DecodeShape(32, 2048, 32, 32, 128),
        "llama-2-13b, batch 32, 2k": DecodeShape(32, 2048, 40, 40, 128),
        "llama-3-8b, batch 1, 8k": DecodeShape(1, 8192, 32, 8, 128),
        "llama-3-8b, batch 64, 2k": DecodeShape(64, 2048, 32, 8, 128),
        "llama-3.2-1b, batch 64, 2k": DecodeShape(64, 2048, 32, 8, 64),
        "gemma-2-9b, batch 32, 4k": DecodeShape(32, 4096, 16, 8, 256),
    }
)
"""What LLMs ask of a GPU: compiled for, tuned and measured there; too much to interpret on a CPU."""
