"""Another engine in a process of its own, which sleeps while muxjax is measured and the other way round."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from muxjax.bench.result import BenchError
from muxjax.bench.timing import Timing

NAMES = ("transformers", "llama.cpp")


class Rival:
    """One engine with one model.

    Attributes:
        versions: of the packages that do its work.
    """

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        """Wait until the process is ready; `errors` has what it writes to its standard error. Raises BenchError."""
        self._process = process
        self._errors = errors
        self.versions: dict[str, str] = self._receive()["versions"]

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Timing:
        """Complete the prompts together, as one static batch. Raises BenchError."""
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps({"prompts": prompts, "max_tokens": max_tokens}) + "\n")
            self._process.stdin.flush()
        answer = self._receive()
        return Timing([answer["token_times"]] * len(prompts), answer["token_ids"])

    def _receive(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:]
            raise BenchError(": ".join(["its process ended", *last]))
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer


@contextmanager
def running_rival(name: str, python: Path, model: Path, dtype: str, threads: int) -> Iterator[Rival]:
    """The rival of this name on an interpreter that has it, ready to generate.

    Raises:
        BenchError: there is no such interpreter, it does not have the engine, or that cannot load the model.
    """
    # A package of its own, found by its folder: the interpreter has no muxjax, nor the JAX that it needs.
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "PYTHONSAFEPATH": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [str(python), "-m", "rivals", name, "--model", str(model), "--dtype", dtype, "--threads", str(threads)]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile("w+") as errors:
        try:
            process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=errors, text=True)
        except OSError as error:
            raise BenchError(f"its interpreter cannot be started: {error.strerror}") from error
        try:
            yield Rival(process, errors)
        finally:
            process.terminate()
            process.communicate()
