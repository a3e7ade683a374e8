"""The gate lets sound programs through, and names what is wrong with every other: compiled without a GPU, for real."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from muxjax.gpu_compile.targets import TARGETS

ROOT = Path(__file__).parents[3]
GPU_PYTHON = ROOT / ".venv-gpu" / "bin" / "python"
needs_toolchain = pytest.mark.skipif(not GPU_PYTHON.exists(), reason="no .venv-gpu: `make gpu-compile` sets it up")
Outcomes = dict[tuple[str, str], dict]


def run(python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"JAX_PLATFORMS", "XLA_FLAGS"}}
    return subprocess.run([python, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def checked() -> subprocess.CompletedProcess[str]:
    return run(GPU_PYTHON, "tests.muxjax.gpu_compile.faulty_cases")


@pytest.fixture(scope="module")
def outcomes(checked: subprocess.CompletedProcess[str]) -> Outcomes:
    assert checked.stdout, checked.stderr
    return {(outcome["name"], outcome["target"]): outcome for outcome in json.loads(checked.stdout)}


@needs_toolchain
@pytest.mark.parametrize(
    ("case", "target", "violation"),
    [
        ("spilling", "sm_90a", r"product: spills [\d,]+ bytes a thread"),
        ("too_large_tile", "sm_90a", "takes too much shared memory: .* available: 232448"),
        ("too_large_tile", "sm_80", "takes too much shared memory: .* available: 166912"),
        ("too_large_mosaic_tile", "sm_90a", "takes too much shared memory: .*232448"),
        ("copying", "sm_90a", r"copies the pool: copy \S+ of bf16\[1000,2,32,128\]"),
        ("not_donated", "sm_90a", "does not write the pool in place"),
        ("hogging", "sm_90a", r"takes [\d,]+ bytes of temporary memory, over its bound of 1,048,576"),
        ("many_launches", "sm_90a", "is not one command buffer"),
        ("summing_twice", "sm_90a", "sums up 32,768 elements over devices, and not 16,384"),
        ("launching_after_a_sum", "sm_90a", r"is not one command buffer: \d+ of them between 1 collectives"),
        ("unreached", "sm_90a", "paged_decode: no such kernel reached ptxas"),
        ("broken", "sm_90a", "does not compile: .*contracting dimensions"),
    ],
)
def test_what_must_not_be_is_named(
    checked: subprocess.CompletedProcess[str], outcomes: Outcomes, case: str, target: str, violation: str
) -> None:
    assert re.match(violation, outcomes[case, target]["violations"][0])
    assert re.search(rf"^FAILED {target}, {case}: {violation}", checked.stderr, re.MULTILINE)
    assert checked.returncode == 1


@needs_toolchain
@pytest.mark.parametrize("case", ["sound", "in_place", "summing", "unsupported"])
def test_what_may_be_passes(outcomes: Outcomes, case: str) -> None:
    assert outcomes[case, "sm_90a"]["violations"] == []


@needs_toolchain
def test_figures_are_those_of_the_assembler(outcomes: Outcomes) -> None:
    (kernel,) = outcomes["sound", "sm_90a"]["kernels"]
    assert kernel["architecture"] == "sm_90a"
    assert 16 <= kernel["registers"] <= 255
    assert kernel["spilled"] == 0
    assert kernel["shared_memory"] == 32 * 32 * 4  # one of the product's operands


@needs_toolchain
def test_sound_programs_pass_as_a_whole() -> None:
    passed = run(GPU_PYTHON, "muxjax.gpu_compile", "pool_write", "phi-2", "1024", "--target", "sm_80")
    assert passed.returncode == 0, passed.stderr
    assert re.search(r"pool_write xla: phi-2, 1024 rows .* ok", passed.stdout)
    assert "3 programs compiled, 0 violations" in passed.stderr


@needs_toolchain
def test_a_word_that_no_program_has_is_no_success() -> None:
    nothing = run(GPU_PYTHON, "muxjax.gpu_compile", "paged_encode")
    assert nothing.returncode == 1
    assert "0 programs compiled" in nothing.stderr


def test_without_the_compilers_it_says_what_to_do() -> None:
    refused = run(sys.executable, "muxjax.gpu_compile")
    assert refused.returncode == 2
    assert "make gpu-compile" in refused.stderr


def test_targets_are_the_gpus_they_say() -> None:
    assert {name: (target.cores, target.shared_memory) for name, target in TARGETS.items()} == {
        "sm_90a": (132, 227 * 1024),
        "sm_80": (108, 163 * 1024),
    }
