"""What the compilers wrote about one program: the resources of its kernels, and how it is launched."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

_ENTRY = re.compile(r"Compiling entry function '(?P<name>[^']+)' for '(?P<architecture>[^']+)'")
_SPILLS = re.compile(r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes")
_RESOURCES = re.compile(r"Used (?P<registers>\d+) registers(?:.*?(?P<shared>\d+) bytes smem)?")
_LAUNCH = re.compile(r"kCustomKernel \[[^]]*\] (?P<name>\S+) grid: .* shared_memory: (?P<bytes>\d+) bytes")
_MOSAIC_MODULE = re.compile(
    r"^module @(?P<name>\S+) attributes \{.*mosaic_gpu\.smem_bytes = (?P<bytes>\d+)", re.MULTILINE
)
_COLLECTIVE = re.compile(r": k(All|ReduceScatter|Collective|AsyncStart .*communication_stream)")
_MOSAIC_SUFFIX = "_mosaic_gpu_kernel"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel, as ptxas made it.

    Attributes:
        name: of its entry.
        architecture: what it runs on, such as sm_90a.
        registers: of a thread.
        spilled: bytes that a thread writes to memory and reads back, for want of registers.
        shared_memory: bytes of a block of threads.
    """

    name: str
    architecture: str
    registers: int = 0
    spilled: int = 0
    shared_memory: int = 0


def read_kernels(directory: Path) -> tuple[Kernel, ...]:
    """All kernels that were assembled while the compilers wrote into `directory`."""
    logs = "\n".join(path.read_text() for path in sorted(directory.glob("ptxas-*.log")))
    dynamic = _dynamic_shared_memory(directory)
    return tuple(
        replace(kernel, shared_memory=kernel.shared_memory + dynamic.get(kernel.name, 0)) for kernel in _assembled(logs)
    )


def _assembled(logs: str) -> Iterator[Kernel]:
    """The kernels that ptxas tells of: a line with the name, and then lines about it."""
    kernel = None
    for line in logs.splitlines():
        if entry := _ENTRY.search(line):
            kernel = Kernel(entry["name"], entry["architecture"])
        elif kernel is None:
            continue
        elif spills := _SPILLS.search(line):
            kernel = replace(kernel, spilled=int(spills["stores"]) + int(spills["loads"]))
        elif resources := _RESOURCES.search(line):
            yield replace(kernel, registers=int(resources["registers"]), shared_memory=int(resources["shared"] or 0))
            kernel = None


def _dynamic_shared_memory(directory: Path) -> dict[str, int]:
    """What is asked for at the launch, which ptxas does not know; by the kernel's name."""
    found: dict[str, int] = {}
    for path in directory.glob("*.thunk_sequence.txt"):
        found |= {launch["name"]: int(launch["bytes"]) for launch in _LAUNCH.finditer(path.read_text())}
    for path in directory.glob("*.mlir-passes.log"):
        modules = _MOSAIC_MODULE.finditer(path.read_text(errors="replace"))
        found |= {module["name"] + _MOSAIC_SUFFIX: int(module["bytes"]) for module in modules}
    return found


@dataclass(frozen=True, slots=True)
class Launches:
    """How a program is sent to the device.

    Attributes:
        command_buffers: recorded sequences of launches (CUDA graphs), each sent as one.
        collectives: what devices do together, which is outside of them.
        alone: other launches outside of them.
        most_in_a_row: of these, with nothing else between them.
    """

    command_buffers: int
    alone: int
    collectives: int = 0
    most_in_a_row: int = 0


def read_launches(directory: Path) -> Launches:
    """The launches of the one program that XLA described in `directory`."""
    after = list(directory.glob("*.thunk_sequence_after_thunk_passes.txt"))
    (path,) = after or directory.glob("*.thunk_sequence.txt")
    outermost = [line for line in path.read_text().splitlines() if re.match(r"\d+: k", line)]
    kinds = [_launch_kind(line) for line in outermost if ": kAsyncDone" not in line]
    runs = [len(list(run)) for kind, run in groupby(kinds) if kind == "alone"]
    return Launches(kinds.count("command buffer"), sum(runs), kinds.count("collective"), max(runs, default=0))


def _launch_kind(line: str) -> Literal["command buffer", "collective", "alone"]:
    if ": kCommandBuffer" in line:
        return "command buffer"
    return "collective" if _COLLECTIVE.search(line) else "alone"
