"""Compiles one case, in a process that has the toolchain, and judges it."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.sharding import AbstractDevice, AbstractMesh, NamedSharding, use_abstract_mesh

from muxjax.gpu_compile.case import Case, Compilation, Outcome, Program
from muxjax.gpu_compile.compiler_output import Kernel, read_kernels, read_launches
from muxjax.gpu_compile.mesh import gpu_mesh
from muxjax.gpu_compile.targets import TARGETS, Target
from muxjax.gpu_compile.toolchain import log_into
from muxjax.gpu_compile.verdict import find_violations, from_error
from muxjax.serving.executor.spmd import WHOLE


def compile_case(case: Case) -> Outcome:
    """Compile for the case's target and judge the result; what does not compile is an outcome too."""
    target = TARGETS[case.target]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-compile-") as name, _on_target(target), _said_into(Path(name)):
        directory = Path(name)
        try:
            program = case.program()
            compilation = _compile(program, target, directory)
        except NotImplementedError as error:
            return Outcome(case.name, target.name, unsupported=str(error))
        except Exception as error:  # whatever a compiler raises is about the case, and others follow
            return Outcome(case.name, target.name, (from_error(error),), seconds=time.monotonic() - started)
    return Outcome(
        case.name,
        target.name,
        tuple(find_violations(program, compilation, target)),
        kernels=compilation.kernels,
        temp_bytes=compilation.temp_bytes,
        launches=compilation.launches,
        seconds=time.monotonic() - started,
    )


def _compile(program: Program, target: Target, directory: Path) -> Compilation:
    alone = NamedSharding(gpu_mesh(target.name), WHOLE)
    arguments = jax.tree.map(lambda leaf: leaf.update(sharding=leaf.sharding or alone), program.arguments)
    lowered = jax.jit(program.function, donate_argnums=program.pool if program.writes_pool else ()).lower(*arguments)
    described = {"xla_dump_to": str(directory), "xla_dump_hlo_as_text": True}
    compiled = lowered.compile(compiler_options={**program.compiler_options, **described})
    hlo, memory = compiled.as_text(), compiled.memory_analysis()
    if hlo is None or memory is None:
        raise RuntimeError("XLA says nothing of what it compiled")
    kernels, launches = _own_kernels(program, directory), read_launches(directory)
    return Compilation(hlo, memory.temp_size_in_bytes, memory.alias_size_in_bytes, kernels, launches)


@contextmanager
def _on_target(target: Target) -> Iterator[None]:
    """Trace as on that GPU: kernels are not interpreted, and those chosen by device are its own."""
    device = AbstractDevice(device_kind=target.device_kind, num_cores=target.cores, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        yield


@contextmanager
def _said_into(directory: Path) -> Iterator[None]:
    """Collect what the compilers say: files of their own, and the rest of it out of sight."""
    os.environ.update(log_into(directory))
    said, silent = os.dup(2), os.open(directory / "stderr.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(silent, 2)
    try:
        yield
    finally:
        os.dup2(said, 2)
        os.close(said)
        os.close(silent)


def _own_kernels(program: Program, directory: Path) -> tuple[Kernel, ...]:
    if not program.kernels:
        return ()
    return tuple(dict.fromkeys(kernel for kernel in read_kernels(directory) if kernel.name.startswith(program.kernels)))
