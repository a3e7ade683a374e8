"""Placements as YAML, which people and `muxjax.serve` read, and as JSON for programs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from muxjax.placement.errors import PlacementError
from muxjax.placement.placement import PlacedLLM, PlacedUnit, Placement

_HEADER = """\
# Which LLMs share which GPUs, as `python -m muxjax.place` found it; `python -m muxjax.serve` takes this file.
# Units are meshes of one node. Rates and throughputs are requests/s, shares percent of a GPU's compute.
"""


def to_json(placement: Placement) -> dict[str, Any]:
    """What `muxjax.place --json` prints."""
    keys = ("name", "model", "rate", "tensor_parallel", "decode_share", "batch_size", "throughput")
    return _summary(placement) | {
        "units": [
            {
                "gpus": unit.gpus,
                "memory_per_gpu_gb": unit.memory_per_gpu_gb,
                "llms": [{key: getattr(llm, key) for key in keys} for llm in unit.llms],
            }
            for unit in placement.units
        ]
    }


def write_placement(placement: Placement, path: Path) -> None:
    """Write the YAML file; what an LLM does not have (a source, an SLO) is left out. Raises OSError."""
    units = [
        {
            "node": unit.node,
            "devices": list(unit.devices),
            "memory_per_gpu_gb": unit.memory_per_gpu_gb,
            "llms": [{key: value for key, value in asdict(llm).items() if value is not None} for llm in unit.llms],
        }
        for unit in placement.units
    ]
    text = yaml.safe_dump({"placement": _summary(placement), "units": units}, sort_keys=False, width=120)
    path.write_text(_HEADER + text, encoding="utf-8")


def read_placement(path: Path) -> Placement:
    """A placement from a file that `write_placement` wrote.

    Raises:
        PlacementError: the file cannot be read, or with every field that is wrong.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlacementError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    reader = _Reader()
    placement = reader.placement(data)
    if reader.complaints:
        raise PlacementError(f"{path}: {complaint}" for complaint in reader.complaints)
    return placement


def _summary(placement: Placement) -> dict[str, Any]:
    keys = ("search", "seconds", "throughput", "authors_objective", "upper_bound", "gap")
    return {key: getattr(placement, key) for key in keys}


class _Reader:
    """Builds the dataclasses and collects what is wrong."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def placement(self, data: object) -> Placement:
        """The whole file."""
        root = self._section(data, "the file")
        summary = self._section(root.get("placement"), "placement")
        numbers = {
            key: self._number(summary, key, "placement")
            for key in ("seconds", "throughput", "authors_objective", "upper_bound")
        }
        units = tuple(self._unit(unit, f"units.{index}") for index, unit in enumerate(self._items(root, "units", "")))
        return Placement(search=str(summary.get("search")), units=units, **numbers)

    def _unit(self, data: object, at: str) -> PlacedUnit:
        unit = self._section(data, at)
        devices = self._items(unit, "devices", at)
        if not all(type(device) is int and device >= 0 for device in devices):
            self.complaints.append(f"{at}.devices: must be the numbers of GPUs, not {devices!r}")
        llms = enumerate(self._items(unit, "llms", at))
        return PlacedUnit(
            node=int(self._number(unit, "node", at)),
            devices=tuple(devices),
            memory_per_gpu_gb=self._number(unit, "memory_per_gpu_gb", at),
            llms=tuple(self._llm(llm, f"{at}.llms.{index}") for index, llm in llms),
        )

    def _llm(self, data: object, at: str) -> PlacedLLM:
        llm = self._section(data, at)
        for key in ("name", "model"):
            if not isinstance(llm.get(key), str):
                self.complaints.append(f"{at}.{key}: must be a text, not {llm.get(key)!r}")
        return PlacedLLM(
            name=str(llm.get("name")),
            model=str(llm.get("model")),
            rate=self._number(llm, "rate", at),
            tensor_parallel=int(self._number(llm, "tensor_parallel", at)),
            decode_share=int(self._number(llm, "decode_share", at)),
            batch_size=int(self._number(llm, "batch_size", at)),
            throughput=self._number(llm, "throughput", at),
            prompt_len=self._number(llm, "prompt_len", at),
            output_len=self._number(llm, "output_len", at),
            source=llm.get("source"),
            slo=llm.get("slo"),
        )

    def _section(self, data: object, at: str) -> Mapping[str, Any]:
        if isinstance(data, Mapping):
            return data
        self.complaints.append(f"{at}: must be a section of keys and values, not {data!r}")
        return {}

    def _items(self, section: Mapping[str, Any], key: str, at: str) -> list[Any]:
        value = section.get(key)
        if isinstance(value, list):
            return value
        self.complaints.append(f"{at}.{key}: must be a list, not {value!r}".removeprefix("."))
        return []

    def _number(self, section: Mapping[str, Any], key: str, at: str) -> float:
        value = section.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return value
        self.complaints.append(f"{at}.{key}: must be a number from 0, not {value!r}")
        return 0.0
