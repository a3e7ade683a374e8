"""Shapes of writes that LLMs really have, for tests and benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class WriteShape:
    """The new tokens of a step, in all layers: `rows` of each of `sequences`."""

    layers: int
    sequences: int
    rows: int
    kv_heads: int
    head_dim: int


SHAPES: Mapping[str, WriteShape] = MappingProxyType(
    {
        "llama-125m, batch 32": WriteShape(12, 32, 1, 12, 64),
        "llama-125m, 512 rows": WriteShape(12, 1, 512, 12, 64),
        "llama-8b, batch 4": WriteShape(32, 4, 1, 8, 128),
    }
)
"""Small enough for a CPU."""

GPU_SHAPES: Mapping[str, WriteShape] = MappingProxyType(
    {
        "llama-2-7b, batch 32": WriteShape(32, 32, 1, 32, 128),
        "llama-2-7b, 2048 rows": WriteShape(32, 1, 2048, 32, 128),
        "llama-2-13b, batch 64": WriteShape(40, 64, 1, 40, 128),
        "llama-3-8b, batch 1": WriteShape(32, 1, 1, 8, 128),
        "llama-3-8b, batch 256": WriteShape(32, 256, 1, 8, 128),
        "qwen2-0.5b, batch 128": WriteShape(24, 128, 1, 2, 64),
        "gemma-2b, batch 64": WriteShape(18, 64, 1, 1, 256),
        "phi-2, 1024 rows": WriteShape(32, 1, 1024, 32, 80),
    }
)
"""What GPUs are for; the last one's heads are padded."""
