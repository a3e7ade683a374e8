"""Placement files: what is written comes back, and damage is reported."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from muxjax.placement.errors import PlacementError
from muxjax.placement.placement import PlacedLLM, PlacedUnit, Placement
from muxjax.placement.placement_file import read_placement, to_json, write_placement

LLM = PlacedLLM("a", "llama-7b", 2.5, 2, 30, 8, 2.0, 161, 337, source="/models/a", slo=20.0)
UNITS = (
    PlacedUnit(0, (0, 1), 80, (LLM, replace(LLM, name="b", source=None, slo=None))),
    PlacedUnit(0, (2,), 80, ()),
)
PLACEMENT = Placement("best", 0.5, throughput=4.0, authors_objective=2.0, upper_bound=5.0, units=UNITS)


def test_a_written_placement_comes_back(tmp_path: Path) -> None:
    write_placement(PLACEMENT, tmp_path / "placement.yaml")
    assert read_placement(tmp_path / "placement.yaml") == PLACEMENT


def test_json_has_the_documented_keys() -> None:
    data = to_json(PLACEMENT)
    summary = ["search", "seconds", "throughput", "authors_objective", "upper_bound", "gap", "units"]
    assert list(data) == summary
    assert data["gap"] == pytest.approx(0.2)
    assert list(data["units"][0]) == ["gpus", "memory_per_gpu_gb", "llms"]
    assert data["units"][0]["llms"][0] == {
        "name": "a",
        "model": "llama-7b",
        "rate": 2.5,
        "tensor_parallel": 2,
        "decode_share": 30,
        "batch_size": 8,
        "throughput": 2.0,
    }
    assert [unit["gpus"] for unit in data["units"]] == [2, 1]


def test_the_gap_is_never_negative() -> None:
    assert replace(PLACEMENT, throughput=5.1).gap == 0
    assert replace(PLACEMENT, upper_bound=0).gap == 0


def test_every_damaged_field_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "placement.yaml"
    write_placement(PLACEMENT, path)
    data = yaml.safe_load(path.read_text())
    data["placement"]["throughput"] = "much"
    data["units"][0]["devices"] = [0, "x"]
    data["units"][0]["llms"][1]["rate"] = -1
    del data["units"][1]["llms"]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(PlacementError) as refused:
        read_placement(path)
    assert refused.value.complaints == (
        f"{path}: placement.throughput: must be a number from 0, not 'much'",
        f"{path}: units.0.devices: must be the numbers of GPUs, not [0, 'x']",
        f"{path}: units.0.llms.1.rate: must be a number from 0, not -1",
        f"{path}: units.1.llms: must be a list, not None",
    )


@pytest.mark.parametrize("text", ["[", "3", "units: 7"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "placement.yaml"
    path.write_text(text)
    with pytest.raises(PlacementError):
        read_placement(path)
