"""What must not be in a program for a GPU."""

import math
import re
from collections.abc import Iterator, Sequence

import jax

from muxjax.gpu_compile.case import Compilation, Program
from muxjax.gpu_compile.compiler_output import Kernel, Launches
from muxjax.gpu_compile.targets import Target

_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?(?P<name>\S+) = (?P<type>\w+)\[(?P<shape>[\d,]*)\]\S* (?P<operation>[\w-]+)\("
)
# What begins now and is awaited later has the types of its operands before those of its results.
_ALL_REDUCE = re.compile(
    r"^\s*(?:ROOT )?%?\S+ = (?:\(\([^()]*\), )?(?P<types>[^=]*?) all-reduce(?:-start)?\(", re.MULTILINE
)
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")
_SHORTEST_COMMAND_BUFFER = 5  # launches (XLA's xla_gpu_graph_min_graph_size)
_COPIES = {"copy", "copy-start", "convert", "select", "transpose", "concatenate"}
_HLO_DTYPES = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}


def find_violations(program: Program, compilation: Compilation, target: Target) -> Iterator[str]:
    """Everything wrong with a program that compiles, a line each."""
    yield from _judge_kernels(program, compilation.kernels, target)
    if (pool := program.pool_shape) is not None:
        for copy in pool_copies(compilation.hlo, pool):
            yield f"copies the pool: {copy}"
        if program.writes_pool and compilation.aliased_bytes < math.prod(pool.shape) * pool.dtype.itemsize:
            yield "does not write the pool in place: its memory is not that of the donated one"
    if compilation.temp_bytes > program.temp_bound:
        yield f"takes {compilation.temp_bytes:,} bytes of temporary memory, over its bound of {program.temp_bound:,}"
    if (summed := summed_elements(compilation.hlo)) != program.summed_elements:
        yield f"sums up {summed:,} elements over devices, and not {program.summed_elements:,}"
    if program.is_one_command_buffer and not _is_one_command_buffer(compilation.launches):
        yield f"is not one command buffer: {_shown(compilation.launches)}"


def from_error(error: Exception) -> str:
    """The violation that a compiler's error is; its first line, for the rest are the compiler's own places."""
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "shared memory" in message.lower():
        return f"takes too much shared memory: {message}"
    return f"does not compile: {message}"


def pool_copies(hlo: str, pool: jax.ShapeDtypeStruct) -> list[str]:
    """The instructions of an optimised program that make a new array of the pool's size, by name and operation."""
    dtype, size = _HLO_DTYPES[pool.dtype.name], math.prod(pool.shape)
    copies = []
    for line in hlo.splitlines():
        made = _INSTRUCTION.match(line)
        if made is None or made["operation"] not in _COPIES or made["type"] != dtype:
            continue
        if math.prod(map(int, filter(None, made["shape"].split(",")))) == size:
            copies.append(f"{made['operation']} {made['name']} of {made['type']}[{made['shape']}]")
    return copies


def summed_elements(hlo: str) -> int:
    """Of all that the devices of an optimised program sum up together; XLA may combine several sums in one."""
    shapes = (shape for made in _ALL_REDUCE.finditer(hlo) for shape in _SHAPE.findall(made["types"]))
    return sum(math.prod(map(int, filter(None, shape.split(",")))) for shape in shapes)


def _is_one_command_buffer(launches: Launches) -> bool:
    """Whether it is, from one collective to the next; of so few launches XLA makes none there."""
    if launches.collectives == 0:
        return (launches.command_buffers, launches.alone) == (1, 0)
    return launches.command_buffers <= launches.collectives + 1 and launches.most_in_a_row < _SHORTEST_COMMAND_BUFFER


def _shown(launches: Launches) -> str:
    between = f" between {launches.collectives} collectives" if launches.collectives else ""
    return f"{launches.command_buffers} of them{between}, and {launches.alone} launches alone"


def _judge_kernels(program: Program, kernels: Sequence[Kernel], target: Target) -> Iterator[str]:
    for missing in (name for name in program.kernels if not any(kernel.name.startswith(name) for kernel in kernels)):
        yield f"{missing}: no such kernel reached ptxas"
    for kernel in kernels:
        if kernel.architecture != target.name:
            yield f"{kernel.name}: assembled for {kernel.architecture}, not for {target.name}"
        if kernel.spilled:
            yield f"{kernel.name}: spills {kernel.spilled:,} bytes a thread"
        if kernel.shared_memory > target.shared_memory:
            yield (
                f"{kernel.name}: takes {kernel.shared_memory:,} bytes of shared memory, {target.name} has "
                f"{target.shared_memory:,}"
            )
