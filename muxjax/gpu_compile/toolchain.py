"""CUDA's compiler as PyPI has it, set up so that what its assembler says of every kernel is kept."""

import importlib.util
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

_LOGS = "MUXJAX_PTXAS_LOGS"


class ToolchainError(Exception):
    """What is needed to compile for GPUs is not installed."""


def use_toolchain(directory: Path) -> None:
    """Make the processes that this one starts compile with it; this one too, if it has not imported JAX yet.

    Args:
        directory: an empty one, for a CUDA installation that consists of links and of the wrapper around ptxas.

    Raises:
        ToolchainError: JAX's CUDA plugin or CUDA's compiler is not installed.
    """
    cuda = _find_cuda()
    (directory / "bin").mkdir()
    (directory / "nvvm").symlink_to(cuda / "nvvm")
    (directory / "bin" / "nvlink").symlink_to(cuda / "bin" / "nvlink")
    wrapper = directory / "bin" / "ptxas"
    wrapper.write_text(_wrapper(cuda / "bin" / "ptxas"))
    wrapper.chmod(0o755)
    # XLA looks where CUDA_ROOT points, Mosaic GPU on the path.
    path = f"{directory / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.environ.update({"JAX_PLATFORMS": "cpu", "CUDA_ROOT": str(directory), "PATH": path, **log_into(directory)})


def log_into(directory: Path) -> Mapping[str, str]:
    """The environment variables that send what compilers say into `directory`."""
    return {_LOGS: str(directory), "MOSAIC_GPU_DUMP_TO": str(directory)}


def _wrapper(ptxas: Path) -> str:
    """A program to call in ptxas' place, which writes the resources that kernels take into a file of its own."""
    return f"""#!/bin/sh
log=$(mktemp "${{{_LOGS}:?}}/ptxas-XXXXXX.log") || exit 1
{shlex.quote(str(ptxas))} -v "$@" 2>"$log"
status=$?
cat "$log" >&2
exit $status
"""


def _find_cuda() -> Path:
    """The folder of CUDA's compiler."""
    roots = [Path(parent) / "cu13" for parent in _folders("nvidia")]
    found = [root for root in roots if (root / "bin" / "ptxas").exists() and (root / "nvvm" / "libdevice").exists()]
    has_plugin = any((Path(parent) / "xla_cuda13").exists() for parent in _folders("jax_plugins"))
    if not (found and has_plugin):
        raise ToolchainError(
            "jax-cuda13-plugin, nvidia-cuda-nvcc and nvidia-nvvm must be installed: `make gpu-compile` runs this in an "
            "environment that has them"
        )
    return found[0]


def _folders(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []
