"""What the GPU kernels of ragged_prefill do not take, and say so."""

from typing import Any

import numpy as np
import pytest

from muxjax.pallas_kernels.ragged_prefill import ragged_prefill
from tests.pallas_kernels.cases import make_case


@pytest.mark.parametrize(
    ("implementation", "changed", "message"),
    [
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
