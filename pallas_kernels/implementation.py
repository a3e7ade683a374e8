"""Which implementation of an operation runs, and why."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

import jax

from muxjax.pallas_kernels.cpu.library import native_kernels

Implementation = Literal["cpu", "mosaic", "triton", "xla"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The implementation that an operation uses by default.

    Attributes:
        name: what to pass as `implementation` to get it explicitly.
        reason: one line for people: why this one, or why not a faster one.
    """

    name: Implementation
    reason: str


def default_implementation() -> Choice:
    """The implementation tried first on JAX's default backend; compiles the C kernels when it is the CPU."""
    backend = jax.default_backend()
    if backend != "cpu":
        return Choice("xla", f"the only implementation for the {backend} backend")
    kernels = native_kernels()
    return Choice("cpu" if kernels.available else "xla", kernels.detail)


def interpreted() -> bool:
    """Whether Pallas kernels are interpreted: where programs are for a CPU, and not for a GPU that is not here."""
    return jax.default_backend() == "cpu" and jax.sharding.get_abstract_mesh().abstract_device is None


def run_first_supported(
    implementations: Mapping[Implementation, Callable[..., jax.Array]],
    implementation: Implementation | None,
    *args: jax.Array,
    **kwargs: Hashable,
) -> jax.Array:
    """Calls one implementation: the one named, or else the default one, or "xla" where that cannot do it.

    As a jitted function, so that its kernels are traced and compiled once for all layers of a program.

    Args:
        implementations: what each of them calls.
        implementation: one of their names, or None.
        args: arrays.
        kwargs: options, hashable, of which each combination is traced anew.

    Raises:
        ValueError: `implementation` names none of the operation's.
        NotImplementedError: the named implementation does not support these inputs.
    """
    name = implementation or default_implementation().name
    if name not in implementations:
        raise ValueError(f"implementation={name!r} is unknown: use None or one of {', '.join(implementations)}")

    def run(name: Implementation) -> jax.Array:
        return jax.jit(implementations[name], static_argnames=tuple(kwargs))(*args, **kwargs)

    try:
        return run(name)
    except NotImplementedError:
        if implementation is not None:
            raise
        return run("xla")
