"""Which implementation of an operation runs, and why."""

import re
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax

from muxjax.pallas_kernels.cpu.library import native_kernels

Implementation = Literal["cpu", "mosaic", "triton", "xla"]


@dataclass(frozen=True, slots=True)
class Choice:
    """An implementation that was chosen.

    Attributes:
        name: what to pass as `implementation` to get it explicitly.
        reason: one line for people: why this one, or why not a faster one.
    """

    name: Implementation
    reason: str


def default_implementation(device: Any = None) -> Choice:
    """The implementation tried first on a device; see `preferences`."""
    return preferences(device)[0]


def preferences(device: Any = None) -> tuple[Choice, ...]:
    """The implementations for a device in the order in which they are tried, ending with "xla", which can do all.

    Args:
        device: a jax.Device, or what looks like one; None is the one that programs are traced for. For a CPU, the C
            kernels are compiled first.
    """
    device = device or _traced_for()
    if device.platform == "cpu":
        kernels = native_kernels()
        own = (Choice("cpu", kernels.detail),) if kernels.available else ()
        return (*own, Choice("xla", "plain JAX" if own else kernels.detail))
    capability = _cuda_capability(device)
    if capability is None:
        return (Choice("xla", f"plain JAX; there are no kernels for {device.device_kind}"),)
    shown = f"compute capability {capability[0]}.{capability[1]}"
    if capability < (8, 0):
        return (Choice("xla", f"plain JAX; {device.device_kind} is too old for the kernels ({shown}, they need 8.0)"),)
    triton, xla = Choice("triton", f"Triton kernels, for {shown}"), Choice("xla", "plain JAX")
    if capability == (9, 0):
        return (Choice("mosaic", f"Mosaic GPU kernels, for Hopper ({shown})"), triton, xla)
    return (triton, xla)  # Mosaic's kernels use Hopper's wgmma, which neither older nor newer GPUs have


def choose[Result](
    names: Collection[Implementation], attempt: Callable[[Implementation], Result], device: Any = None
) -> tuple[Choice, Result]:
    """The first of the device's implementations that supports what is attempted, and what came of it.

    Args:
        names: the implementations that there are; "xla" is one of them.
        attempt: calls the one of that name; raises NotImplementedError where it does not support its inputs.
        device: see `preferences`.
    """
    refusals: list[str] = []
    for choice in preferences(device):
        if choice.name not in names:
            continue
        try:
            result = attempt(choice.name)
        except NotImplementedError as error:
            refusals.append(str(error))
        else:
            return Choice(choice.name, "; ".join((choice.reason, *refusals))), result
    raise NotImplementedError("; ".join(refusals))


def interpreted() -> bool:
    """Whether Pallas kernels are interpreted: where programs are for a CPU, and not for a GPU that is not here."""
    return bool(_traced_for().platform == "cpu")


def run_first_supported(
    implementations: Mapping[Implementation, Callable[..., jax.Array]],
    implementation: Implementation | None,
    *args: jax.Array,
    **kwargs: Hashable,
) -> jax.Array:
    """Calls one implementation: the one named, or else the first of the device's that supports these inputs.

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

    def run(name: Implementation) -> jax.Array:
        return jax.jit(implementations[name], static_argnames=tuple(kwargs))(*args, **kwargs)

    if implementation is None:
        return choose(implementations, run)[1]
    if implementation not in implementations:
        known = ", ".join(implementations)
        raise ValueError(f"implementation={implementation!r} is unknown: use None or one of {known}")
    return run(implementation)


def _traced_for() -> Any:
    """The GPU that is not here, if programs are compiled for one, or else JAX's first device."""
    device, abstract = jax.devices()[0], jax.sharding.get_abstract_mesh().abstract_device
    # Within shard_map there is an abstract device for those that are here, too, and it knows less of them.
    return device if abstract is None or abstract.device_kind == device.device_kind else abstract


def _cuda_capability(device: Any) -> tuple[int, int] | None:
    """The compute capability of an NVIDIA GPU; None of other devices (AMD's say "gfx..." there)."""
    capability = getattr(device, "compute_capability", None) or _capability_by_kind(device.device_kind)
    found = re.fullmatch(r"(\d+)\.(\d+)", str(capability))
    return (int(found[1]), int(found[2])) if found else None


def _capability_by_kind(device_kind: str) -> str | None:
    """Of the GPUs that programs are compiled for where they are not: abstract devices do not say it."""
    known = {"NVIDIA H100": "9.0", "NVIDIA A100": "8.0"}
    return next((capability for kind, capability in known.items() if device_kind.startswith(kind)), None)
