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
