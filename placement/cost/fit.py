"""`python -m muxjax.placement.cost.fit TABLE [--gpu NAME]`: fit the roofline, show its errors on held-out points."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from muxjax.placement.cost.cost_model import Seconds
from muxjax.placement.cost.roofline import DECODE, PREFILL, Efficiencies, Roofline
from muxjax.placement.cost.table import CostTable, read_table
from muxjax.placement.errors import PlacementError
from muxjax.placement.gpus import KNOWN_GPUS, Gpu
from muxjax.placement.known_models import KNOWN_MODELS
from muxjax.placement.model_shape import ModelShape

_HELD_OUT = 5  # every fifth point is not fitted


@dataclass(frozen=True, eq=False)
class Points:
    """Measurements of one kind of job on one mesh with one share.

    Attributes:
        batch, length, seconds: of each measurement.
        held_out: which of them only test the fit.
    """

    model: ModelShape
    gpus: int
    share: int
    batch: Seconds
    length: Seconds
    seconds: Seconds
    held_out: NDArray[np.bool_]


def points(table: CostTable, kind: str) -> list[Points]:
    """All measurements of "prefill" or "decode" jobs of models whose shapes are known."""
    found, number = [], 0
    for name, meshes in table.entries.items():
        for gpus, shares in meshes.items() if name in KNOWN_MODELS else ():
            for share, batches in shares.items():
                rows = [
                    (size, tokens, taken)
                    for size, lengths in batches.items()
                    for tokens, latency in lengths.items()
                    if (taken := getattr(latency, kind)) is not None
                ]
                if rows:
                    held_out = (number + np.arange(len(rows))) % _HELD_OUT == 0
                    number += len(rows)
                    batch, length, seconds = np.array(rows, np.float64).T
                    found.append(Points(KNOWN_MODELS[name], gpus, share, batch, length, seconds, held_out))
    return found


def fit(measured: Sequence[Points], kind: str, gpu: Gpu, start: Efficiencies) -> Efficiencies:
    """The efficiencies with the least errors of logarithms, large ones damped, on the points that are not held out."""

    def residuals(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        predicted = _predict(measured, kind, gpu, Efficiencies(*np.exp(logarithms)))
        return np.concatenate([np.log(p / of.seconds)[~of.held_out] for p, of in zip(predicted, measured, strict=True)])

    solution = least_squares(residuals, np.log(astuple(start)), loss="soft_l1", f_scale=0.1)
    return Efficiencies(*(float(value) for value in np.exp(solution.x)))


def errors(measured: Sequence[Points], kind: str, gpu: Gpu, efficiencies: Efficiencies) -> NDArray[np.float64]:
    """Relative errors on the held-out points."""
    predicted = _predict(measured, kind, gpu, efficiencies)
    return np.concatenate([np.abs(p / of.seconds - 1)[of.held_out] for p, of in zip(predicted, measured, strict=True)])


def _predict(measured: Sequence[Points], kind: str, gpu: Gpu, efficiencies: Efficiencies) -> list[Seconds]:
    roofline = Roofline(gpu, efficiencies, efficiencies)
    job = roofline.prefill_seconds if kind == "prefill" else roofline.decode_seconds
    return [job(of.model, of.gpus, of.share, of.batch, of.length) for of in measured]


def main(arguments: list[str] | None = None) -> int:
    """Fit, and print coefficients and errors."""
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.placement.cost.fit",
        description="Fit the roofline's efficiencies to a cost table; show the errors on points that were not fitted.",
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--gpu", choices=KNOWN_GPUS, default="a100-80gb", help="what the table was measured on")
    options = parser.parse_args(arguments)
    try:
        table = read_table(options.table)
    except PlacementError as error:
        print(error, file=sys.stderr)
        return 2
    gpu = KNOWN_GPUS[options.gpu]
    for kind, shipped in (("prefill", PREFILL), ("decode", DECODE)):
        measured = points(table, kind)
        if not measured:
            print(f"{options.table}: has no {kind} of a known model ({', '.join(KNOWN_MODELS)})", file=sys.stderr)
            return 2
        fitted = fit(measured, kind, gpu, shipped)
        print(f"{kind}: {fitted}")
        for name, efficiencies in (("shipped", shipped), ("fitted", fitted)):
            wrong = errors(measured, kind, gpu, efficiencies)
            print(
                f"  {name}: error on {len(wrong):,} held-out points: median {np.median(wrong):.1%}, "
                f"90th percentile {np.quantile(wrong, 0.9):.1%}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
