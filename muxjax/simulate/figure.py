"""`python -m muxjax.simulate --figure NAME`: a figure's data as JSON, and its picture."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from muxjax.placement.cost.table import CostTable
from muxjax.placement.errors import PlacementError
from muxjax.simulate.drawing import NEEDS_MATPLOTLIB, draw
from muxjax.simulate.figures import FIGURES


def run(name: str, measured: Path, table: CostTable, seed: int, folder: Path) -> dict[str, Any]:
    """Simulate and write NAME.json, NAME.png and NAME.svg into the folder; the result is what the JSON has.

    Raises PlacementError where matplotlib is missing (before anything is simulated), or files cannot be used.
    """
    if find_spec("matplotlib") is None:
        raise PlacementError(NEEDS_MATPLOTLIB)
    figure = FIGURES[name](measured, table, seed)
    result = figure.as_dict()
    file = folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise PlacementError(f"{file}: cannot be written: {error.strerror}") from error
    pictures = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    draw(figure, pictures)
    return result | {"files": [str(file), *map(str, pictures)]}


def show(result: Mapping[str, Any]) -> None:
    """Where the files are."""
    print("\n".join(result["files"]))
