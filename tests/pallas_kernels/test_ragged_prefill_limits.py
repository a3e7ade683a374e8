"""What the GPU kernels of ragged_prefill do not take, and say so."""

from typing import Any

import numpy as np
import pytest

from muxjax.pallas_kernels.ragged_prefill import ragged_prefill
from tests.pallas_kernels.cases import make_case


@pytest.mark.parametrize(
    ("implementation", "changed", "message"),
    [
        ("mosaic", {"head_dim": 256, "dtype": "bfloat16"}, "heads of 64, 128, not 256"),
        ("mosaic", {"group": 17, "dtype": "bfloat16"}, "at most 16 query heads per KV head, not 17"),
        ("mosaic", {"sm_scale": -1.0, "dtype": "bfloat16"}, "a positive sm_scale, not -1.0"),
        ("mosaic", {"dtype": "float32"}, "both bfloat16 or both float16, not float32, float32"),
        ("mosaic", {"page_tokens": 24, "dtype": "bfloat16"}, "a power of two of tokens, 8 or more, not 24"),
        ("triton", {"head_dim": 512}, "heads of 32, 64, 128, 256, not 512: use implementation='xla'"),
        ("triton", {"group": 33, "head_dim": 32}, "up to 32 query heads per KV head, not 33"),
        ("triton", {"sm_scale": -1.0}, "a positive sm_scale, not -1.0"),
    ],
)
def test_says_what_it_does_not_take(implementation: str, changed: dict[str, Any], message: str) -> None:
    options = {"sm_scale": changed.pop("sm_scale", 1.0)}
    case = make_case(np.random.default_rng(0), past=[3], rows=[2], **changed)
    tables = (case.page_blocks, case.page_table, case.starts, case.kv_lens)
    with pytest.raises(NotImplementedError, match=message):
        ragged_prefill(
            case.queries, case.keys, case.values, case.pool, *tables, **options, implementation=implementation
        )
