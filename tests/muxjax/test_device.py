"""A GPU that JAX is installed for and cannot use is an error at once, unless the CPU was asked for."""

import os
import subprocess
from pathlib import Path

import jax
import pytest

import muxjax.device
from muxjax.device import DeviceError, check_device

ROOT = Path(__file__).parents[2]
GPU_PYTHON = ROOT / ".venv-gpu" / "bin" / "python"
needs_plugin = pytest.mark.skipif(not GPU_PYTHON.exists(), reason="no .venv-gpu: `make gpu-compile` sets it up")


def check(platforms: str | None) -> subprocess.CompletedProcess[str]:
    """`serve --check` where JAX's CUDA plugin is installed, and there is no GPU."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    if platforms is not None:
        environment["JAX_PLATFORMS"] = platforms
    command = [GPU_PYTHON, "-m", "muxjax.serve", "--check"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@needs_plugin
@pytest.mark.parametrize("platforms", [None, "cuda"])
def test_a_plugin_that_finds_no_gpu_is_an_error_that_says_what_to_do(platforms: str | None) -> None:
    checked = check(platforms)
    assert checked.returncode == 1
    assert checked.stdout == ""
    message = checked.stderr.splitlines()[-1]
    assert "nvidia-smi" in message
    assert "JAX_PLATFORMS=cpu to run on the CPU" in message


@needs_plugin
def test_the_cpu_is_used_when_it_is_asked_for() -> None:
    checked = check("cpu")
    assert checked.returncode == 0, checked.stderr
    assert "device     cpu" in checked.stdout


def test_a_driver_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(platform: str) -> list[jax.Device]:
        raise RuntimeError(f"Backend '{platform}' failed to initialize: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: old.\nmore")

    monkeypatch.setattr(muxjax.device, "_has_cuda_plugin", lambda: True)
    monkeypatch.setattr(jax, "devices", fails)
    monkeypatch.setattr(muxjax.device, "_platforms", lambda: None)
    with pytest.raises(DeviceError, match=r"can use none: .*DRIVER_MISMATCH: old \(see"):
        check_device()


def test_a_cpu_without_a_plugin_is_fine() -> None:
    check_device()
