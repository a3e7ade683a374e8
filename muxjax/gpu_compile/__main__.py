"""`make gpu-compile`: compile every kernel and whole steps for GPUs, without one, and fail on what must not be."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from muxjax.gpu_compile.case import Case, Outcome
from muxjax.gpu_compile.gate import compile_all, toolchain
from muxjax.gpu_compile.kernels import kernel_cases
from muxjax.gpu_compile.report import print_table, to_json, violation_lines
from muxjax.gpu_compile.steps import step_cases
from muxjax.gpu_compile.toolchain import ToolchainError

_PIPE_WIDTH = 160


def main(arguments: list[str] | None = None) -> int:
    """Compile what is asked for; returns the process's exit code."""
    options = _parse(arguments)
    try:
        with toolchain():
            return _run(options)
    except ToolchainError as error:
        print(error, file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    everything: list[Case] = [*step_cases(), *kernel_cases()]
    cases = [case for case in everything if _is_chosen(case, options)]
    if options.list:
        print("\n".join(f"{case.target}, {case.name}" for case in cases))
        return 0
    return check(cases, as_json=options.json)


def check(cases: Sequence[Case], *, as_json: bool = False) -> int:
    """Compile the cases and print what became of them; 1 if there is a violation, or nothing to compile."""
    outcomes = _compile(cases)
    if as_json:
        print(to_json(outcomes))
    else:
        print_table(outcomes, Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False))
    violations = list(violation_lines(outcomes))
    for violation in violations:
        print(f"FAILED {violation}", file=sys.stderr)
    print(f"{len(outcomes)} programs compiled, {len(violations)} violations", file=sys.stderr)
    return 1 if violations or not outcomes else 0


def _compile(cases: Sequence[Case]) -> list[Outcome]:
    """The outcomes in the order of the cases, whichever ends first."""
    outcomes: dict[int, Outcome] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("compiling", total=len(cases))
        for index, outcome in compile_all(cases):
            outcomes[index] = outcome
            progress.update(task, advance=1, description=f"{outcome.target} {outcome.name}")
            if not progress.console.is_terminal:
                print(f"{len(outcomes)}/{len(cases)} {outcome.target} {outcome.name}", file=sys.stderr, flush=True)
    return [outcomes[index] for index in range(len(cases))]


def _is_chosen(case: Case, options: argparse.Namespace) -> bool:
    return options.target in (None, case.target) and all(word in case.name for word in options.only)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.gpu_compile",
        description="Compile muxjax's kernels and whole steps for NVIDIA GPUs, on a machine without one.",
        epilog="Exit codes: 0 all is well, 1 something must not be as it is, 2 the compilers are not installed.",
    )
    parser.add_argument("only", nargs="*", metavar="WORD", help="compile only what has all these words in its name")
    parser.add_argument("--target", choices=("sm_90a", "sm_80"), help="compile for this GPU only")
    parser.add_argument("--list", action="store_true", help="say what there is to compile, and compile nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
