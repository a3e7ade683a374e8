"""Runs the tests that need several devices, the files on_eight_devices.py, in a process that has eight on its CPU."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_on_eight_devices() -> None:
    files = sorted(map(str, TESTS.rglob("on_eight_devices.py")))
    assert len(files) >= 2
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "pytest", *files]
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
