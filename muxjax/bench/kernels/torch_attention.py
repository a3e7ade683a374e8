"""Attention of the same batches by PyTorch, on keys and values gathered beforehand, and by FlashInfer, on pages."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from muxjax.bench.isolated import Case
from muxjax.bench.kernels.decode import fits, moved_bytes, sizes
from muxjax.bench.kernels.scale import Scale
from muxjax.bench.kernels.timing import operations_per_call
from muxjax.pallas_kernels.paged_decode.shapes import DecodeShape

_BATCHES = 6
_ROUNDS_OF = 20
_FLASHINFER_PAGE_TOKENS = 16


def cases(scale: Scale) -> Iterator[Case]:
    """The batches that have targets."""
    for name, time in (("PyTorch sdpa, gathered", _time_sdpa), ("FlashInfer", _time_flashinfer)):
        for batch, context in scale.batches[:_BATCHES]:
            shape = DecodeShape(batch, context, *scale.decode_heads)
            if 2 * moved_bytes(shape) < scale.pool_bytes and fits(shape, scale):
                labels = {
                    "operation": "paged_decode",
                    "implementation": name,
                    "shape": f"batch {batch}, context {context}",
                }
                yield Case({**labels, **sizes(shape)}, partial(time, shape, scale))


def _time_sdpa(shape: DecodeShape, scale: Scale) -> dict[str, Any]:
    import torch  # type: ignore[import-not-found]

    device = "cpu" if scale.is_interpreted else "cuda"
    layers = operations_per_call(moved_bytes(shape), scale)
    sizes = (layers, 2, shape.sequences, shape.kv_heads, shape.kv_len, shape.head_dim)
    cache = torch.randn(sizes, dtype=torch.bfloat16, device=device)
    queries = torch.randn(shape.sequences, shape.q_heads, 1, shape.head_dim, dtype=torch.bfloat16, device=device)
    attend = torch.nn.functional.scaled_dot_product_attention
    return _times(lambda layer: attend(queries, *cache[layer], enable_gqa=True), layers, shape, scale)


def _time_flashinfer(shape: DecodeShape, scale: Scale) -> dict[str, Any]:
    import flashinfer  # type: ignore[import-not-found]
    import torch

    rng, page_tokens = np.random.default_rng(0), _FLASHINFER_PAGE_TOKENS
    layers, pages_each = operations_per_call(moved_bytes(shape), scale), -(-shape.kv_len // page_tokens)
    pages = shape.sequences * pages_each
    cache = torch.randn(
        (layers, pages, 2, page_tokens, shape.kv_heads, shape.head_dim), dtype=torch.bfloat16, device="cuda"
    )
    queries = torch.randn(shape.sequences, shape.q_heads, shape.head_dim, dtype=torch.bfloat16, device="cuda")
    workspace = torch.empty(256 * 2**20, dtype=torch.uint8, device="cuda")
    decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=True)
    starts = torch.arange(shape.sequences + 1, dtype=torch.int32) * pages_each
    last = torch.full((shape.sequences,), (shape.kv_len - 1) % page_tokens + 1, dtype=torch.int32)
    indices = torch.from_numpy(rng.permutation(pages).astype(np.int32)).cuda()
    heads = (shape.q_heads, shape.kv_heads, shape.head_dim, page_tokens)
    decode.plan(starts.cuda(), indices, last.cuda(), *heads, q_data_type=torch.bfloat16, kv_data_type=torch.bfloat16)
    return _times(lambda layer: decode.run(queries, cache[layer]), layers, shape, scale)


def _times(run: Callable[[int], object], layers: int, shape: DecodeShape, scale: Scale) -> dict[str, Any]:
    """As `time_operations`, by the device's own clock."""
    import torch

    if scale.is_interpreted:
        run(0)
        return {}
    for layer in range(layers):
        run(layer)
    rounds = []
    for _ in range(scale.rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for index in range(_ROUNDS_OF):
            run(index % layers)
        end.record()
        torch.cuda.synchronize()
        rounds.append(begin.elapsed_time(end) / _ROUNDS_OF * 1e3)
    us = float(np.median(rounds))
    return {"us": us, "us_least": min(rounds), "us_most": max(rounds), "gb_per_s": moved_bytes(shape) / us / 1e3}
