"""Shapes of products that sparse LLMs really have, for tests and benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class GroupedShape:
    """One product of a layer: `tokens` with the matrices `[inner, columns]` of `per_token` of `groups` experts each."""

    tokens: int
    per_token: int
    groups: int
    inner: int
    columns: int
    is_int8: bool = False

    @property
    def rows(self) -> int:
        """A token's, once for each expert that it is given to."""
        return self.tokens * self.per_token


GPU_SHAPES: Mapping[str, GroupedShape] = MappingProxyType(
    {
        "mixtral-8x7b gate-up, batch 1": GroupedShape(1, 2, 8, 4096, 2 * 14336),
        "mixtral-8x7b gate-up, batch 64": GroupedShape(64, 2, 8, 4096, 2 * 14336),
        "mixtral-8x7b down, batch 64": GroupedShape(64, 2, 8, 14336, 4096),
        "mixtral-8x7b down, batch 64, int8": GroupedShape(64, 2, 8, 14336, 4096, is_int8=True),
        "mixtral-8x7b gate-up, 2048 rows": GroupedShape(2048, 2, 8, 4096, 2 * 14336),
        "mixtral-8x7b gate-up, 2048 rows, int8": GroupedShape(2048, 2, 8, 4096, 2 * 14336, is_int8=True),
        "qwen3-30b-a3b gate-up, batch 1": GroupedShape(1, 8, 128, 2048, 2 * 768),
        "qwen3-30b-a3b gate-up, batch 64": GroupedShape(64, 8, 128, 2048, 2 * 768),
        "qwen3-30b-a3b down, batch 64": GroupedShape(64, 8, 128, 768, 2048),
        "qwen3-30b-a3b down, batch 256, int8": GroupedShape(256, 8, 128, 768, 2048, is_int8=True),
        "qwen3-30b-a3b gate-up, 2048 rows": GroupedShape(2048, 8, 128, 2048, 2 * 768),
    }
)
"""What GPUs are for."""
