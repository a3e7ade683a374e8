"""`python -m muxjax.simulate PLACEMENT`, `--validate DIR` and `--figure NAME`."""

import argparse
import json
import math
import sys
from pathlib import Path

from muxjax.placement.cost.cost_model import CostModel
from muxjax.placement.cost.interpolated import InterpolatedTable
from muxjax.placement.cost.roofline import Roofline
from muxjax.placement.cost.table import read_table
from muxjax.placement.errors import PlacementError
from muxjax.placement.gpus import KNOWN_GPUS
from muxjax.serving.simulation.systems import SYSTEMS
from muxjax.simulate import figure, operator, validate
from muxjax.simulate.figures import FIGURES


def main(arguments: list[str] | None = None) -> int:
    """Simulate and print; returns the exit status: 2 for input that cannot be used."""
    options = _parse(arguments)
    try:
        if options.validate is not None:
            table = read_table(options.cost or options.validate.parent / "a100_llama_cost.json")
            result = validate.run(options.validate, table, options.seed)
            show = validate.show
        elif options.figure is not None:
            table = read_table(options.cost or options.measured.parent / "a100_llama_cost.json")
            result = figure.run(options.figure, options.measured, table, options.seed, options.output)
            show = figure.show
        else:
            measured = None if options.cost is None else read_table(options.cost)
            costs: CostModel = Roofline(KNOWN_GPUS[options.gpu]) if measured is None else InterpolatedTable(measured)
            workload = operator.Workload(
                options.duration, options.seed, options.variation, options.trace, options.scale
            )
            result = operator.run(options.placement, costs, measured, options.system, workload)
            show = operator.show
    except PlacementError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.simulate",
        description="Run the server's scheduler and pool in virtual time, and say what a placement gives.",
        epilog="DIR holds JSON files {cases: {name: {rates, systems: {spatial|temporal|muxserve: {llms: {name: {model, "
        "dev or unit, tpt or throughput, n or request_num}}}}}}}; other JSON files in it are passed over.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "placement", nargs="?", type=Path, metavar="PLACEMENT", help="a file of python -m muxjax.place -o"
    )
    what.add_argument("--validate", type=Path, metavar="DIR", help="replay measured runs and compare")
    what.add_argument(
        "--figure", choices=list(FIGURES), help="simulate a figure of MuxServe's paper; writes PNG and JSON"
    )
    parser.add_argument(
        "--measured",
        type=Path,
        metavar="DIR",
        help="for --figure: the measured runs, as for --validate; it simulates and draws them",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="for --figure: where its files go (default: here)",
    )
    parser.add_argument(
        "--cost",
        type=Path,
        metavar="FILE",
        help="measured latencies (default: a roofline of the GPU; beside measured runs their a100_llama_cost.json)",
    )
    parser.add_argument("--gpu", choices=list(KNOWN_GPUS), default="a100-80gb", help="of the roofline (a100-80gb)")
    parser.add_argument("--system", choices=list(SYSTEMS), default="muxserve", help="what serves (default: muxserve)")
    parser.add_argument("--duration", type=_positive, default=120.0, metavar="S", help="of the arrivals (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and lengths (default: 0)")
    parser.add_argument(
        "--variation", type=_positive, default=1.0, metavar="CV", help="of gamma arrivals (default: 1, Poisson)"
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="arrivals and lengths from a trace (.csv, .json[l])")
    parser.add_argument("--scale", type=_positive, default=1.0, metavar="X", help="multiplies all rates (default: 1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.figure is not None and options.measured is None:
        parser.error("--figure needs --measured DIR: the runs that MuxServe's authors measured, which it simulates")
    return options


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
