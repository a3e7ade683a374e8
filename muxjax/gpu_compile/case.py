"""What the gate compiles, and what it says of the result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax

from muxjax.gpu_compile.compiler_output import Kernel, Launches


@dataclass(frozen=True)
class Program:
    """A function to compile, and what is asked of it.

    Attributes:
        function: with positional arguments.
        arguments: their shapes and dtypes, and how they lie on a mesh, if not on one device.
        pool: the argument that is the pool, if any; it is never to be copied.
        writes_pool: whether it is donated, and written in place.
        temp_bound: bytes of temporary memory that it may take, at most.
        kernels: the names that its own kernels begin with; others are XLA's, whose tiles a real device chooses.
        is_one_command_buffer: whether all that it launches, from one sum over devices to the next, must be sent as one.
        summed_elements: of all that the devices of a mesh sum up together; XLA ends a command buffer before each sum.
        compiler_options: of XLA, where they are not its own defaults.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    temp_bound: int
    pool: int | None = None
    writes_pool: bool = False
    kernels: tuple[str, ...] = ()
    is_one_command_buffer: bool = False
    summed_elements: int = 0
    compiler_options: Mapping[str, str | bool | int] = field(default_factory=dict)

    @property
    def pool_shape(self) -> jax.ShapeDtypeStruct | None:
        """Of the pool, if the program has it, as each device has it."""
        if self.pool is None:
            return None
        pool: jax.ShapeDtypeStruct = self.arguments[self.pool]
        own_shape = pool.shape if pool.sharding is None else pool.sharding.shard_shape(pool.shape)
        return jax.ShapeDtypeStruct(own_shape, pool.dtype)


class Case(Protocol):
    """One line of the table. It crosses processes, so it holds names and numbers only."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def target(self) -> str:
        """The GPU to compile for, a key of TARGETS."""

    def program(self) -> Program:
        """What to compile; traced, and its kernels chosen, as for the target.

        Raises:
            NotImplementedError: the kernel does not support this.
        """


@dataclass(frozen=True, slots=True)
class Compilation:
    """A program, as the compilers made it.

    Attributes:
        hlo: optimised.
        temp_bytes: temporary memory.
        aliased_bytes: outputs that take the memory of donated arguments.
        kernels: its own, identical ones once.
        launches: how it is sent to the device.
    """

    hlo: str
    temp_bytes: int
    aliased_bytes: int
    kernels: tuple[Kernel, ...]
    launches: Launches


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case.

    Attributes:
        name: of the case.
        target: that it was compiled for.
        violations: what must not be, a line each; none if all is well.
        unsupported: why a kernel refuses this, and another implementation runs in its place; None if it does not.
        kernels: its own, by name; identical ones once.
        temp_bytes: temporary memory.
        launches: how it is sent to the device.
        seconds: that it took to trace and compile.
    """

    name: str
    target: str
    violations: tuple[str, ...] = ()
    unsupported: str | None = None
    kernels: tuple[Kernel, ...] = ()
    temp_bytes: int | None = None
    launches: Launches | None = None
    seconds: float = 0.0
