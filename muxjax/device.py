"""Whether JAX runs where it is meant to."""

import importlib.util

import jax

_ADVICE = (
    "see whether `nvidia-smi` shows the GPU and a driver that is new enough, 525 for muxjax[cuda12] and 580 for "
    "muxjax[cuda13]; or set JAX_PLATFORMS=cpu to run on the CPU"
)


class DeviceError(Exception):
    """JAX cannot use the GPU that it is installed for; the message says what to do."""


def check_device() -> None:
    """Raises DeviceError if JAX finds no device, or falls back from NVIDIA GPUs to the CPU without being told to.

    JAX itself only logs that, and a server would be a hundred times too slow without anyone knowing why.
    """
    platforms = _platforms()
    try:
        backend = jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the latter where no plugin is left
        raise DeviceError(f"{_first_line(error)} (JAX_PLATFORMS={platforms}; {_ADVICE})") from None
    if backend == "cpu" and not platforms and _has_cuda_plugin():
        raise DeviceError(
            f"JAX is installed for NVIDIA GPUs (its CUDA plugin is there) and can use none: {_reason()} ({_ADVICE})"
        )


def _platforms() -> str | None:
    """What JAX_PLATFORMS asks for."""
    platforms: str | None = jax.config.jax_platforms
    return platforms


def _has_cuda_plugin() -> bool:
    plugins = importlib.util.find_spec("jax_plugins")
    return plugins is not None and any(importlib.util.find_spec(f"jax_plugins.xla_cuda{cuda}") for cuda in (12, 13))


def _reason() -> str:
    """What JAX says of it."""
    try:
        jax.devices("cuda")
    except RuntimeError as error:
        if "failed to initialize" in str(error):
            return _first_line(error)
    return "the plugin could not be loaded, as JAX has logged"


def _first_line(error: Exception) -> str:
    return (str(error) or "JAX finds no device").splitlines()[0].rstrip(".")
