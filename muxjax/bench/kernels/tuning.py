"""What other settings of the kernels would do: a table that a GPU proves wrong is to be corrected."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from muxjax.bench.isolated import Case
from muxjax.bench.kernels.decode import Pools, sizes, time_decode
from muxjax.bench.kernels.paged import DTYPE
from muxjax.bench.kernels.prefill import time_prefill
from muxjax.bench.kernels.scale import Scale
from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.paged_decode import triton as decode_triton
from muxjax.pallas_kernels.paged_decode.shapes import DecodeShape
from muxjax.pallas_kernels.ragged_prefill import triton as prefill_triton
from muxjax.pallas_kernels.ragged_prefill.shapes import PrefillShape

Changes = tuple[Mapping[str, int], ...]
DECODE_TRITON: Changes = (
    {"programs": 8},
    {"programs": 2},
    {"tile_tokens": 128},
    {"tile_tokens": 32, "programs": 8},
    {"warps": 8},
    {"stages": 3},
)
PREFILL_TRITON: Changes = ({"tokens": 64}, {"tokens": 64, "stages": 3}, {"rows": 64, "warps": 4}, {"stages": 3})


def cases(scale: Scale) -> Iterator[Case]:
    """One change at a time, or two, of what a kernel has chosen; the first batch and the first prompt of all."""
    pools = Pools(scale)
    lane, itemsize = lane_of(scale.decode_heads[2]), jnp.dtype(DTYPE).itemsize
    batch = DecodeShape(*scale.batches[0], *scale.decode_heads)
    prompt = PrefillShape((0,), scale.prompts[:1], *scale.decode_heads)
    batch_name, prompt_name = "batch {}, context {}".format(*scale.batches[0]), f"prompt of {scale.prompts[0]}"
    for words, layout in _changed(decode_triton.tuning(lane, itemsize), DECODE_TRITON, scale):
        decode = _with(decode_triton.paged_decode_triton, layout=layout)
        labels = {"operation": "paged_decode", "implementation": "triton", "shape": batch_name, "setting": words}
        yield Case({**labels, **sizes(batch)}, partial(time_decode, decode, batch, scale, pools))
    for words, tiles in _changed(prefill_triton.choose_tiles(lane, jnp.dtype(DTYPE)), PREFILL_TRITON, scale):
        prefill = _with(prefill_triton.ragged_prefill_triton, tiles=tiles)
        labels = {"operation": "ragged_prefill", "implementation": "triton", "shape": prompt_name, "setting": words}
        yield Case(labels, partial(time_prefill, prefill, prompt, scale))


def _changed(chosen: Any, changes: Changes, scale: Scale) -> Iterator[tuple[str, Any]]:
    """The settings in words, and as the kernel takes them."""
    for change in changes[:1] if scale.is_interpreted else changes:
        yield ", ".join(f"{name} {value}" for name, value in change.items()), dataclasses.replace(chosen, **change)


def _with(kernel: Callable[..., Array], **setting: Any) -> Callable[..., Array]:
    """As the operation calls its kernel, with other settings."""
    return jax.jit(partial(kernel, sliding_window=None, soft_cap=None, **setting), static_argnames="sm_scale")
