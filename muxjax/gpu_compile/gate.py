"""Compiles many cases side by side."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from muxjax.gpu_compile.case import Case, Outcome
from muxjax.gpu_compile.compilation import compile_case
from muxjax.gpu_compile.toolchain import use_toolchain


@contextmanager
def toolchain() -> Iterator[None]:
    """Have what compiles for GPUs, in the processes that are started in here. Raises ToolchainError."""
    with tempfile.TemporaryDirectory(prefix="cuda-") as directory:
        use_toolchain(Path(directory))
        yield


def compile_all(cases: Sequence[Case]) -> Iterator[tuple[int, Outcome]]:
    """Compile each in one of as many processes as there are cores; yields a case's index and its outcome as it ends."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as processes:
        futures = {processes.submit(compile_case, case): index for index, case in enumerate(cases)}
        for future in as_completed(futures):
            yield futures[future], future.result()
