"""`python -m muxjax.place CLUSTER.yaml [--search NAME] [--cost FILE] [--json] [-o PLACEMENT.yaml]`."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from muxjax.config.problems import ConfigurationError
from muxjax.place.problem_file import LoadedProblem, load_problem
from muxjax.placement.cost.cost_model import CostModel
from muxjax.placement.cost.roofline import Roofline
from muxjax.placement.cost.rounded import RoundedTable
from muxjax.placement.cost.table import read_table
from muxjax.placement.errors import PlacementError
from muxjax.placement.placement_file import to_json, write_placement
from muxjax.placement.solve import SEARCHES, solve

_UNUSABLE = 2
_PIPE_WIDTH = 120


def main(arguments: list[str] | None = None) -> int:
    """Search and show; returns the process's exit code."""
    options = _parse(arguments)
    try:
        loaded = load_problem(options.cluster)
        try:
            cost_model, costs = _cost_model(loaded, options.cost)
            with _progress() as progress:
                placement = solve(loaded.problem, cost_model, options.search, progress)
            if options.output is not None:
                write_placement(placement, options.output)
        except PlacementError as error:
            raise loaded.error(error) from error
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return _UNUSABLE
    except OSError as error:
        print(f"{options.output}: cannot be written: {error.strerror}", file=sys.stderr)
        return _UNUSABLE
    except KeyboardInterrupt:
        return 130  # as shells report SIGINT
    if options.json:
        print(json.dumps(to_json(placement), indent=1))
        return 0
    from rich.console import Console

    from muxjax.place.display import print_placement

    print_placement(placement, Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH), costs)
    return 0


def _cost_model(loaded: LoadedProblem, path: Path | None) -> tuple[CostModel, str]:
    """The costs to calculate with, and what they are in words."""
    if path is None:
        return Roofline(loaded.gpu), "roofline from the GPU's figures, fitted to LLaMA on A100 (--cost FILE: measured)"
    table = read_table(path)
    cluster = loaded.problem.cluster
    table.check([llm.shape.name for llm in loaded.problem.llms], cluster.ngpus_per_node)
    return RoundedTable(table), str(path)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on a terminal's standard error that says how far the search is."""
    if not sys.stderr.isatty():
        yield lambda words: None
        return
    from rich.console import Console

    with Console(stderr=True).status("searching") as status:
        yield lambda words: status.update(f"searching: {words}")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.place",
        description="Say which LLMs share which GPUs, with what parallelism, shares and batches (docs/placement.md).",
        epilog="Searches: best (default), exact (small clusters, proven), and MuxServe's: published and released as "
        "its authors have them, greedy with their fault mended. Exit codes: 0 done, 2 the input cannot be used.",
    )
    parser.add_argument("cluster", type=Path, metavar="CLUSTER.yaml", help="the cluster, and LLMs with their rates")
    parser.add_argument("--search", choices=SEARCHES, default="best", metavar="NAME", help=" | ".join(SEARCHES))
    parser.add_argument("--cost", type=Path, metavar="FILE", help="measured costs, as `muxjax.profile` writes them")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the placement for `muxjax.serve`")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
