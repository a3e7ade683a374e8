"""The second kernel of paged_decode in Mosaic: one attention out of those to the pieces of a sequence."""

import functools
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float, Float32, Int32

from muxjax.pallas_kernels.implementation import interpreted

Scalars = list[Float32[Array, ""]]  # one for each head of a vector
State = tuple[Scalars, Scalars, Float32[Array, " width"]]

THREADS = 128  # of a warpgroup; a vector has an element for each, or more


def merge_pieces(
    starts: Int32[Array, " seqs_plus_1"],
    kv_lens: Int32[Array, " seqs"],
    peak: Float32[Array, "pieces kv_heads rows"],
    total: Float32[Array, "pieces kv_heads rows"],
    weighted: Float32[Array, "pieces padded_heads lane"],
    *,
    group: int,
    at_once: int,
    dtype: jnp.dtype,
) -> Float[Array, "seqs padded_heads lane"]:
    """Attention of all query heads; that of padding rows is zero.

    A program makes one vector: one head of 128 or more elements, or two narrower ones.

    Args:
        starts: sequence s has the pieces starts[s] to starts[s + 1].
        kv_lens: 0 marks a padding row.
        peak: the highest score, a logarithm to base 2, of row r of a KV head: query head `kv_head * group + r`.
        total: the sum of the weights.
        weighted: the weighted sum of the values, by query head; an odd head of 64 elements has a partner.
        group: query heads per KV head.
        at_once: pieces that are read at a time.
        dtype: of the output.
    """
    pieces, padded_heads, lane = weighted.shape
    width = max(lane, THREADS)
    vectors, seqs = padded_heads * lane // width, kv_lens.shape[0]
    merge = plgpu.kernel(
        functools.partial(_merge, lane=lane, group=group, at_once=at_once),
        out_type=jax.ShapeDtypeStruct((seqs, vectors, width), dtype),
        grid=(vectors, seqs),
        grid_names=("vector", "seq"),
        compiler_params=plgpu.CompilerParams(approx_math=True),
        interpret=plgpu.InterpretGPUParams() if interpreted() else None,
        kernel_name="paged_decode_merge",
    )
    attention: Array = merge(starts, kv_lens, peak, total, weighted.reshape(pieces, vectors, width))
    return attention.reshape(seqs, padded_heads, lane)


def _merge(
    starts_ref: jax.Ref,
    kv_lens_ref: jax.Ref,
    peak_ref: jax.Ref,
    total_ref: jax.Ref,
    weighted_ref: jax.Ref,
    output_ref: jax.Ref,
    *,
    lane: int,
    group: int,
    at_once: int,
) -> None:
    vector, seq = lax.axis_index("vector"), lax.axis_index("seq")
    width, last_head = output_ref.shape[2], peak_ref.shape[1] * group - 1
    start, end = starts_ref[seq], starts_ref[seq + 1]
    heads = [jnp.minimum(vector * (width // lane) + number, last_head) for number in range(width // lane)]
    strided = plgpu.Layout.WG_STRIDED((width,), vec_size=width // THREADS)

    def spread(of_heads: Scalars) -> Float32[Array, " width"]:
        """To the elements of each head."""
        element = plgpu.broadcasted_iota(jnp.int32, (width,), 0, layout=strided)
        elements = jnp.full((width,), of_heads[0])
        for number, scalar in enumerate(of_heads[1:], 1):
            elements = jnp.where(element >= number * lane, jnp.full((width,), scalar), elements)
        return elements

    def add(index: Int32[Array, ""], state: State) -> State:
        peaks, totals, weighted = state
        # All loads before any use, so that they overlap; past the end the last piece is read again, with no weight.
        numbers = [start + index * at_once + offset for offset in range(at_once)]
        parts = [_Part.read(number, end, vector, heads, group, peak_ref, total_ref, weighted_ref) for number in numbers]
        new_peaks = [
            functools.reduce(jnp.maximum, of_head)
            for of_head in zip(peaks, *(part.peaks for part in parts), strict=True)
        ]
        decays = [jnp.exp2(old - new) for old, new in zip(peaks, new_peaks, strict=True)]
        totals = [total * decay for total, decay in zip(totals, decays, strict=True)]
        weighted = weighted * spread(decays)
        for part in parts:
            factors = [jnp.exp2(peak - new) for peak, new in zip(part.peaks, new_peaks, strict=True)]
            totals = [sum_ + own * factor for sum_, own, factor in zip(totals, part.totals, factors, strict=True)]
            weighted = weighted + part.weighted * spread(factors)
        return new_peaks, totals, weighted

    nothing = [jnp.float32(-jnp.inf)] * len(heads), [jnp.float32(0)] * len(heads)
    zeros = plgpu.layout_cast(jnp.zeros((width,), jnp.float32), strided)
    _, totals, weighted = lax.fori_loop(0, pl.cdiv(end - start, at_once), add, (*nothing, zeros))
    is_real = jnp.full((width,), kv_lens_ref[seq] > 0)
    output_ref[seq, vector] = jnp.where(is_real, weighted / spread(totals), zeros).astype(output_ref.dtype)


class _Part(NamedTuple):
    """What a piece adds to a vector."""

    peaks: Scalars
    totals: Scalars
    weighted: Float32[Array, " width"]

    @classmethod
    def read(
        cls,
        piece: Int32[Array, ""],
        end: Int32[Array, ""],
        vector: Int32[Array, ""],
        heads: list[Int32[Array, ""]],
        group: int,
        peak_ref: jax.Ref,
        total_ref: jax.Ref,
        weighted_ref: jax.Ref,
    ) -> Self:
        known = jnp.minimum(piece, end - 1)
        rows = [(known, head // group, lax.rem(head, group)) for head in heads]
        peaks = [jnp.where(piece < end, peak_ref[row], -jnp.inf) for row in rows]
        return cls(peaks, [total_ref[row] for row in rows], weighted_ref[known, vector])
