"""The table that people read, and the JSON that programs do."""

import dataclasses
import json
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from muxjax.gpu_compile.case import Outcome
from muxjax.serve.check import shown_bytes

_COLUMNS = ("registers", "spills", "shared", "temp", "command buffers", "seconds", "")


def print_table(outcomes: Sequence[Outcome], console: Console) -> None:
    """A line for each case under its GPU: of its kernels, the largest figures; then what the violations are."""
    for target in dict.fromkeys(outcome.target for outcome in outcomes):
        table = Table(title=target, title_justify="left", box=None, pad_edge=False)
        table.add_column("compiled", overflow="fold")
        for title in _COLUMNS:
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for outcome in outcomes:
            if outcome.target == target:
                table.add_row(outcome.name, *_cells(outcome))
        console.print(table)
        console.print()
    for outcome in outcomes:
        if outcome.unsupported is not None:
            console.print(f"not supported, {outcome.target}, {outcome.name}: {outcome.unsupported}", soft_wrap=True)


def violation_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Each violation with what it is about."""
    for outcome in outcomes:
        yield from (f"{outcome.target}, {outcome.name}: {violation}" for violation in outcome.violations)


def to_json(outcomes: Sequence[Outcome]) -> str:
    """All figures; the names of the fields are those of Outcome, Kernel and Launches."""
    return json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1)


def _cells(outcome: Outcome) -> Iterator[str]:
    verdict = "[red]FAILED[/]" if outcome.violations else "not supported" if outcome.unsupported else "[green]ok[/]"
    if outcome.temp_bytes is None or outcome.launches is None:
        yield from ("",) * (len(_COLUMNS) - 2)
    else:
        kernels = outcome.kernels
        yield str(max(kernel.registers for kernel in kernels)) if kernels else "-"
        yield f"{max(kernel.spilled for kernel in kernels):,}" if kernels else "-"
        yield shown_bytes(max(kernel.shared_memory for kernel in kernels)) if kernels else "-"
        yield shown_bytes(outcome.temp_bytes)
        launches = outcome.launches
        beside = {"collectives": launches.collectives, "launches": launches.alone}
        shown = [f"{number} {kind}" for kind, number in beside.items() if number]
        yield ", ".join([str(launches.command_buffers), *shown])
    yield f"{outcome.seconds:.1f}"
    yield verdict
