"""What the GPU kernels of paged_decode do not take: said when the program is traced, before anything runs."""

import functools

import jax
import jax.numpy as jnp
import pytest

from muxjax.pallas_kernels.implementation import Implementation
from muxjax.pallas_kernels.paged_decode import paged_decode


@pytest.mark.parametrize(
    ("implementation", "lane", "group", "dtype", "message"),
    [
        ("triton", 8, 1, "float32", "a power of two from 16 to 256, not 8"),
        ("triton", 512, 1, "float32", "a power of two from 16 to 256, not 512"),
        ("triton", 64, 65, "float32", "at most 64 query heads per KV head, not 65"),
        ("triton", 64, 1, "int8", "float32, bfloat16 and float16, not float32, int8"),
        ("mosaic", 64, 1, "float32", "both bfloat16 or both float16, not float32, float32"),
    ],
)
def test_says_what_it_does_not_take(
    implementation: Implementation, lane: int, group: int, dtype: str, message: str
) -> None:
    def array(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))

    heads = array(4, 2 * group, lane), array(4, 2, lane), array(4, 2, lane)
    tables = (array(*shape, dtype="int32") for shape in ((9, 2), (4, 3), (4,)))
    decode = functools.partial(paged_decode, sm_scale=1.0, implementation=implementation)
    with pytest.raises(NotImplementedError, match=message):
        jax.eval_shape(decode, *heads, array(20, 2, 4096 // lane, lane, dtype=dtype), *tables)
