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
from muxjax.bench.kernels.grouped import time_grouped
from muxjax.bench.kernels.paged import DTYPE
from muxjax.bench.kernels.prefill import time_prefill
from muxjax.bench.kernels.scale import Scale
from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.grouped_matmul import triton as grouped_triton
from muxjax.pallas_kernels.grouped_matmul.shapes import GroupedShape
from muxjax.pallas_kernels.implementation import Implementation
from muxjax.pallas_kernels.paged_decode import mosaic as decode_mosaic
from muxjax.pallas_kernels.paged_decode import triton as decode_triton
from muxjax.pallas_kernels.paged_decode.shapes import DecodeShape
from muxjax.pallas_kernels.ragged_prefill import mosaic as prefill_mosaic
from muxjax.pallas_kernels.ragged_prefill import triton as prefill_triton
from muxjax.pallas_kernels.ragged_prefill.shapes import PrefillShape

Changes = tuple[Mapping[str, int], ...]
Settings = tuple[str, Callable[..., Array], Any, Changes]  # the argument of a kernel, what it has chosen, changes to it
DECODE_MOSAIC: Changes = ({"programs": 8}, {"programs": 2}, {"stages": 3}, {"stages": 4})
DECODE_TRITON: Changes = (
    {"programs": 8},
    {"programs": 2},
    {"tile_tokens": 128},
    {"tile_tokens": 32, "programs": 8},
    {"warps": 8},
    {"stages": 3},
)
PREFILL_MOSAIC: Changes = ({"tokens": 64, "stages": 4}, {"tokens": 64})
PREFILL_TRITON: Changes = ({"tokens": 64}, {"tokens": 64, "stages": 3}, {"rows": 64, "warps": 4}, {"stages": 3})
GROUPED_FEW: Changes = ({"inner": 128}, {"columns": 64}, {"stages": 3}, {"rows": 32})
GROUPED_MANY: Changes = ({"stages": 4}, {"rows": 64, "warps": 4}, {"columns": 256})


def cases(scale: Scale) -> Iterator[Case]:
    """One change at a time, or two, of what a kernel has chosen; the first batch and the first prompt of all."""
    pools = Pools(scale)
    lane, dtype = lane_of(scale.decode_heads[2]), jnp.dtype(DTYPE)
    batch = DecodeShape(*scale.batches[0], *scale.decode_heads)
    prompt = PrefillShape((0,), scale.prompts[:1], *scale.decode_heads)
    batch_name, prompt_name = "batch {}, context {}".format(*scale.batches[0]), f"prompt of {scale.prompts[0]}"
    decode_settings: Mapping[Implementation, Settings] = {
        "mosaic": ("layout", decode_mosaic.paged_decode_mosaic, decode_mosaic.tuning(lane), DECODE_MOSAIC),
        "triton": (
            "layout",
            decode_triton.paged_decode_triton,
            decode_triton.tuning(lane, dtype.itemsize),
            DECODE_TRITON,
        ),
    }
    prefill_settings: Mapping[Implementation, Settings] = {
        "mosaic": ("layout", prefill_mosaic.ragged_prefill_mosaic, prefill_mosaic.LAYOUTS[lane], PREFILL_MOSAIC),
        "triton": (
            "tiles",
            prefill_triton.ragged_prefill_triton,
            prefill_triton.choose_tiles(lane, dtype),
            PREFILL_TRITON,
        ),
    }
    for implementation, words, decode in _changed(decode_settings, scale):
        labels = {"operation": "paged_decode", "implementation": implementation, "shape": batch_name, "setting": words}
        yield Case({**labels, **sizes(batch)}, partial(time_decode, decode, batch, scale, pools))
    for implementation, words, prefill in _changed(prefill_settings, scale):
        labels = {
            "operation": "ragged_prefill",
            "implementation": implementation,
            "shape": prompt_name,
            "setting": words,
        }
        yield Case(labels, partial(time_prefill, prefill, prompt, scale))
    for name, shape in scale.grouped_shapes.items():
        for words, multiply in _changed_tiles(shape, scale):
            labels = {"operation": "grouped_matmul", "implementation": "triton", "shape": name, "setting": words}
            yield Case({**labels, "tokens": shape.tokens}, partial(time_grouped, multiply, shape, scale))


def _changed_tiles(shape: GroupedShape, scale: Scale) -> Iterator[tuple[str, Callable[..., Array]]]:
    """Other tiles of grouped_matmul, for batches that have targets."""
    chosen = grouped_triton.choose_tiles(shape.rows, shape.groups, shape.columns, jnp.dtype(DTYPE))
    changes = GROUPED_FEW if chosen.rows <= grouped_triton.LOW_ROWS else GROUPED_MANY
    for change in changes[:1] if scale.is_interpreted else changes:
        tiles = dataclasses.replace(chosen, **change)
        yield _in_words(change), jax.jit(partial(grouped_triton.launch, tiles=tiles))


def _changed(
    settings: Mapping[Implementation, Settings], scale: Scale
) -> Iterator[tuple[Implementation, str, Callable[..., Array]]]:
    """The settings in words, and the kernels with them, called as operations call theirs."""
    for implementation, (argument, kernel, chosen, changes) in settings.items():
        for change in changes[:1] if scale.is_interpreted else changes:
            setting = {argument: dataclasses.replace(chosen, **change)}
            changed = partial(kernel, sliding_window=None, soft_cap=None, **setting)
            yield implementation, _in_words(change), jax.jit(changed, static_argnames="sm_scale")


def _in_words(change: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in change.items())
