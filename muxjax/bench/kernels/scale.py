"""How much a run of the kernels' benchmark measures: what a GPU is for, or what a CPU gets through in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass

from muxjax.pallas_kernels.grouped_matmul.shapes import GPU_SHAPES as GROUPED_SHAPES
from muxjax.pallas_kernels.grouped_matmul.shapes import GroupedShape
from muxjax.pallas_kernels.paged_decode.shapes import GPU_SHAPES as DECODE_SHAPES
from muxjax.pallas_kernels.paged_decode.shapes import DecodeShape
from muxjax.pallas_kernels.pool_write.shapes import GPU_SHAPES as WRITE_SHAPES
from muxjax.pallas_kernels.pool_write.shapes import WriteShape
from muxjax.pallas_kernels.ragged_prefill.shapes import GPU_SHAPES as PREFILL_SHAPES
from muxjax.pallas_kernels.ragged_prefill.shapes import PrefillShape

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Scale:
    """The parameters of a run.

    Attributes:
        decode_shapes: at which paged_decode is compared with its definition, and timed.
        prefill_shapes: likewise, ragged_prefill.
        write_shapes: likewise, pool_write.
        grouped_shapes: likewise, grouped_matmul.
        decode_heads: query heads, KV heads and head size of the batches below.
        batches: batch sizes with their contexts at which paged_decode is timed; those with targets first.
        prompts: lengths of single prompts at which ragged_prefill is timed beside cuDNN.
        pool_bytes: of the pool that is read; longer batches are left out.
        cold_bytes: what one timed program reads at least, where that is possible, so that no cache holds it.
        matmul_size: rows and columns of the matrices of the matmul ceiling.
        rounds: how often everything is timed; figures are medians.
        round_seconds: that one round takes.
        is_interpreted: whether there is no GPU.
    """

    decode_shapes: Mapping[str, DecodeShape]
    prefill_shapes: Mapping[str, PrefillShape]
    write_shapes: Mapping[str, WriteShape]
    grouped_shapes: Mapping[str, GroupedShape]
    decode_heads: tuple[int, int, int]
    batches: tuple[tuple[int, int], ...]
    prompts: tuple[int, ...]
    pool_bytes: int
    cold_bytes: int
    matmul_size: int
    rounds: int
    round_seconds: float
    is_interpreted: bool = False


FULL = Scale(
    decode_shapes=dict(DECODE_SHAPES),
    prefill_shapes=dict(PREFILL_SHAPES),
    write_shapes=dict(WRITE_SHAPES),
    grouped_shapes=dict(GROUPED_SHAPES),
    decode_heads=(32, 8, 128),
    batches=(
        (32, 2048), (128, 2048), (256, 2048), (32, 8192), (128, 8192), (32, 32768), (256, 8192), (128, 32768),
        (1, 2048), (1, 8192), (1, 32768), (8, 2048), (8, 32768), (1, 128), (32, 128), (256, 128),
    ),
    prompts=(2048, 4096, 8192),
    pool_bytes=20 << 30,
    cold_bytes=256 * _MIB,
    matmul_size=8192,
    rounds=5,
    round_seconds=0.03,
)  # fmt: skip
"""Llama-3-8B's heads in bfloat16, and the shapes that the operations name (in dicts: a proxy cannot be sent)."""

SMOKE = Scale(
    decode_shapes={"tiny": DecodeShape(2, 20, 2, 1, 64)},
    prefill_shapes={"tiny": PrefillShape((3,), (6,), 2, 1, 64)},
    write_shapes={"tiny": WriteShape(1, 2, 1, 1, 64)},
    grouped_shapes={"tiny": GroupedShape(3, 2, 4, 32, 48)},
    decode_heads=(2, 1, 64),
    batches=((2, 20),),
    prompts=(8,),
    pool_bytes=_MIB,
    cold_bytes=0,
    matmul_size=32,
    rounds=1,
    round_seconds=0.0,
    is_interpreted=True,
)
"""Every line of the benchmark runs, interpreted; the figures mean nothing."""
