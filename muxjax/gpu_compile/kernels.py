"""The operations on their own: every implementation for GPUs at every shape that an operation names for them."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType, ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from muxjax.gpu_compile.case import Program
from muxjax.gpu_compile.targets import TARGETS
from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.grouped_matmul import api as grouped_matmul
from muxjax.pallas_kernels.grouped_matmul import shapes as grouped_shapes
from muxjax.pallas_kernels.implementation import Implementation
from muxjax.pallas_kernels.paged_decode import api as paged_decode
from muxjax.pallas_kernels.paged_decode import shapes as decode_shapes
from muxjax.pallas_kernels.pool_write import api as pool_write
from muxjax.pallas_kernels.pool_write import shapes as write_shapes
from muxjax.pallas_kernels.ragged_prefill import api as ragged_prefill
from muxjax.pallas_kernels.ragged_prefill import shapes as prefill_shapes

_OTHER_DTYPES = ("float16", "float32")
_BLOCK_ELEMENTS = 32 * 128
_MULTIPROCESSORS = 132  # of an H100; the other GPUs have fewer
_TARGETS: Mapping[Implementation, tuple[str, ...]] = MappingProxyType(
    {"mosaic": ("sm_90a",), "triton": tuple(TARGETS), "xla": ("sm_80",)}
)


@dataclass(frozen=True, slots=True)
class KernelCase:
    """One implementation of an operation at one of its named shapes, all arrays being of one dtype."""

    operation: str
    implementation: Implementation
    shape: str
    target: str
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        dtype = "" if self.dtype == "bfloat16" else f", {self.dtype}"
        return f"{self.operation} {self.implementation}: {self.shape}{dtype}"

    def program(self) -> Program:
        """The operation alone, on a pool that has just room for the shape."""
        program = _PROGRAMS[self.operation](self.implementation, self.shape, self.dtype)
        if self.implementation == "xla":
            return program
        # A command buffer for a single launch pays for none, but shows that one can have the kernel in it.
        options = {"xla_gpu_graph_min_graph_size": 1}
        return replace(program, kernels=(self.operation,), is_one_command_buffer=True, compiler_options=options)


def kernel_cases() -> Iterator[KernelCase]:
    """Every kernel at every named shape, in bfloat16, for each GPU that it is for.

    In other dtypes, and plain JAX, which is alike on all GPUs, only at the first shape of each kind.
    """
    for operation, (module, shapes, kind, other_dtypes) in _OPERATIONS.items():
        firsts = {kind(shape): name for name, shape in reversed(shapes.GPU_SHAPES.items())}.values()
        for implementation, targets in _TARGETS.items():
            if implementation not in module.IMPLEMENTATIONS:
                continue
            for target in targets:
                case = functools.partial(KernelCase, operation, implementation, target=target)
                yield from (case(shape) for shape in (firsts if implementation == "xla" else shapes.GPU_SHAPES))
                if implementation != "xla":
                    yield from (case(shape, dtype=dtype) for dtype in other_dtypes for shape in firsts)


def _head_dim(shape: Any) -> int:
    return int(shape.head_dim)


def _is_many_and_int8(shape: grouped_shapes.GroupedShape) -> tuple[bool, bool]:
    return shape.rows > 16 * shape.groups, shape.is_int8


_OPERATIONS: Mapping[str, tuple[ModuleType, ModuleType, Callable[[Any], Any], tuple[str, ...]]] = MappingProxyType(
    {
        "paged_decode": (paged_decode, decode_shapes, _head_dim, _OTHER_DTYPES),
        "ragged_prefill": (ragged_prefill, prefill_shapes, _head_dim, _OTHER_DTYPES),
        "pool_write": (
            pool_write,
            write_shapes,
            _head_dim,
            ("float32",),
        ),  # to it float16 is as bfloat16: so many bytes
        "grouped_matmul": (grouped_matmul, grouped_shapes, _is_many_and_int8, _OTHER_DTYPES),
    }
)


def _decode(implementation: Implementation, shape_name: str, dtype: str) -> Program:
    shape = decode_shapes.GPU_SHAPES[shape_name]
    heads = _heads(dtype, shape.sequences, shape.q_heads, shape.kv_heads, shape.head_dim)
    function = functools.partial(paged_decode.paged_decode, sm_scale=0.1, implementation=implementation)
    cache = _cache(dtype, shape.sequences, shape.kv_len, shape.kv_heads, shape.head_dim)
    arguments = (*heads, *cache, _ints(shape.sequences))
    bound = _attention_bound(arguments) if implementation == "xla" else _pieces_bound(arguments)
    return Program(function, arguments, bound, pool=3)


def _prefill(implementation: Implementation, shape_name: str, dtype: str) -> Program:
    shape = prefill_shapes.GPU_SHAPES[shape_name]
    sequences, rows = len(shape.rows), sum(shape.rows)
    heads = _heads(dtype, rows, shape.q_heads, shape.kv_heads, shape.head_dim)
    function = functools.partial(
        ragged_prefill.ragged_prefill,
        sm_scale=0.1,
        sliding_window=shape.sliding_window,
        soft_cap=shape.soft_cap,
        implementation=implementation,
    )
    context = max(past + new for past, new in zip(shape.past, shape.rows, strict=True))
    cache = _cache(dtype, sequences, context, shape.kv_heads, shape.head_dim)
    arguments = (*heads, *cache, _ints(sequences + 1), _ints(sequences))
    return Program(function, arguments, _attention_bound(arguments), pool=3)


def _write(implementation: Implementation, shape_name: str, dtype: str) -> Program:
    shape = write_shapes.GPU_SHAPES[shape_name]
    rows = shape.sequences * shape.rows
    page_tokens = _BLOCK_ELEMENTS // lane_of(shape.head_dim)
    pages = 1 + shape.sequences * math.ceil(shape.rows / page_tokens)
    new = _floats(dtype, shape.layers, rows, shape.kv_heads, shape.head_dim)
    pool = _floats(dtype, 1 + shape.layers * pages * shape.kv_heads, 2, 32, 128)
    arguments = (pool, new, new, _ints(shape.layers, pages, shape.kv_heads), _ints(rows))
    function = functools.partial(pool_write.pool_write, implementation=implementation)
    # The new keys and values once more, at most, in the order that they are written in.
    bound = 2 * _bytes(new, new)
    return Program(function, arguments, bound, pool=0, writes_pool=True)


def _grouped(implementation: Implementation, shape_name: str, dtype: str) -> Program:
    shape = grouped_shapes.GPU_SHAPES[shape_name]
    weights = _floats("int8" if shape.is_int8 else dtype, shape.groups, shape.inner, shape.columns)
    scales = [_floats("float32", shape.groups, shape.columns)] if shape.is_int8 else []
    arguments = (_floats(dtype, shape.rows, shape.inner), weights, _ints(shape.groups), *scales)
    function = functools.partial(grouped_matmul.grouped_matmul, implementation=implementation)
    bound = 2**16  # for tables
    if implementation == "xla":  # has each row once for each group, zero but in its own, and the product in float32
        bound = 3 * shape.groups * _bytes(arguments[0]) + 2**28
    return Program(function, arguments, bound)


_PROGRAMS = MappingProxyType(
    {"paged_decode": _decode, "ragged_prefill": _prefill, "pool_write": _write, "grouped_matmul": _grouped}
)


def _attention_bound(arguments: tuple[jax.ShapeDtypeStruct, ...]) -> int:
    """Room for the output in float32 from each of 16 splits of the tokens, and for a page of each sequence."""
    queries, _, _, pool, page_blocks, page_table = arguments[:6]
    page = page_table.shape[0] * page_blocks.shape[1] * math.prod(pool.shape[1:])
    return 4 * (16 * math.prod(queries.shape) + 4 * page)


def _pieces_bound(arguments: tuple[jax.ShapeDtypeStruct, ...]) -> int:
    """Room for what decoding keeps of each piece, in float32: its output, and peak and total of 64 rows a KV head.

    There are four pieces for each multiprocessor, and one for each sequence. Beside them are the queries, filled up to
    8 rows a KV head, the new tokens' scores, of 64, and tables.
    """
    (sequences, q_heads, dim), kv_heads = arguments[0].shape, arguments[1].shape[1]
    pieces = sequences + math.ceil(4 * _MULTIPROCESSORS / kv_heads)
    queries = sequences * kv_heads * (2 * max(8, q_heads // kv_heads) * dim + 4 * 64)
    return 4 * pieces * (q_heads * dim + 2 * 64 * kv_heads) + queries + 2**16


def _heads(dtype: str, rows: int, q_heads: int, kv_heads: int, dim: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    keys = _floats(dtype, rows, kv_heads, dim)
    return _floats(dtype, rows, q_heads, dim), keys, keys


def _cache(dtype: str, sequences: int, context: int, kv_heads: int, dim: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The pool as an LLM sees it, one layer's table of pages, and the pages of each sequence."""
    lane = lane_of(dim)
    page_tokens = _BLOCK_ELEMENTS // lane
    max_pages = math.ceil(context / page_tokens)
    pages = 1 + sequences * max_pages
    pool = _floats(dtype, 1 + pages * kv_heads, 2, page_tokens, lane)
    return pool, _ints(pages, kv_heads), _ints(sequences, max_pages)


def _floats(dtype: str, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _ints(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def _bytes(*arrays: jax.ShapeDtypeStruct) -> int:
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
