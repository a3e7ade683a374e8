"""The file that `python -m muxjax.place` writes, as what `muxjax.serve` serves."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from muxjax.config.load import LoadedConfig, config_of
from muxjax.config.problems import ConfigurationError, Problem
from muxjax.config.unit import find_devices, first_devices
from muxjax.models.sharding import DEGREES
from muxjax.placement.errors import PlacementError
from muxjax.placement.placement import PlacedUnit, Placement
from muxjax.placement.placement_file import read_placement
from muxjax.serving.plan import PlanError
from muxjax.serving.spec import UnitSpec


@dataclass(frozen=True, slots=True)
class DeviceUnit:
    """A unit and the devices that it has for itself."""

    spec: UnitSpec
    devices: tuple[jax.Device, ...]


def load_placement(path: Path) -> tuple[LoadedConfig, Placement]:
    """The placement, and a configuration with its LLMs; all else has its default.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    try:
        placement = read_placement(path)
    except PlacementError as error:
        raise _error(path, str(error).splitlines()) from error
    if complaints := list(_complaints(placement)):
        raise _error(path, complaints)
    folder = path.parent.absolute()
    llms: dict[str, object] = {}
    for unit in placement.units:
        for llm in unit.llms:
            limits = {"rate": llm.rate or None, "max_sequences": llm.batch_size or None}
            given = {key: value for key, value in limits.items() if value is not None}
            llms[llm.name] = {"source": _from(folder, str(llm.source)), **given}
    return config_of({"llms": llms}), placement


def device_units(config_unit: UnitSpec, placement: Placement | None) -> list[DeviceUnit]:
    """One unit for each group of LLMs, with a pool of its own; without a placement one, on the first devices.

    Raises:
        PlanError: there are not as many devices as it is to be spread over, or they differ.
    """
    if placement is None:
        return [DeviceUnit(config_unit, first_devices(config_unit))]
    specs = {llm.name: llm for llm in config_unit.llms}
    return [
        DeviceUnit(
            replace(
                config_unit,
                llms=tuple(specs[llm.name] for llm in unit.llms),
                tensor_parallel=len(unit.devices),
            ),
            find_devices(unit.devices),
        )
        for unit in placement.units
        if unit.llms
    ]


def _complaints(placement: Placement) -> Iterator[str]:
    """What this server cannot do."""
    taken: dict[int, int] = {}
    names: set[str] = set()
    for index, unit in enumerate(placement.units):
        if not unit.llms:
            continue
        at = f"units.{index}"
        yield from _unit_complaints(unit, at)
        for device in unit.devices:
            if device in taken:
                yield f"{at}.devices: device {device} has units.{taken[device]} already"
            taken.setdefault(device, index)
        for llm in unit.llms:
            if llm.name in names:
                yield f"{at}: {llm.name} is placed a second time"
            names.add(llm.name)
    if not names:
        yield "units: none of them has an LLM"


def _unit_complaints(unit: PlacedUnit, at: str) -> Iterator[str]:
    if unit.node != 0:
        yield f"{at}.node: is {unit.node}, and one server serves one node: write a file for each node, with node 0"
    if len(unit.devices) not in DEGREES:
        yield f"{at}.devices: are {len(unit.devices)}; a unit has 1, 2, 4 or 8"
    try:
        find_devices(unit.devices)
    except PlanError as error:
        yield f"{at}.devices: {error}"
    for number, llm in enumerate(unit.llms):
        if llm.tensor_parallel != len(unit.devices):
            yield (
                f"{at}.llms.{number}.tensor_parallel: is {llm.tensor_parallel}, but an LLM is spread over all "
                f"{len(unit.devices)} devices of its unit"
            )
        if not llm.source:
            yield f"{at}.llms.{number}.source: is missing: add the checkpoint's folder, demo:NAME or random:CONFIG.json"


def _from(folder: Path, source: str) -> str:
    """Paths are relative to the placement's folder."""
    kind, colon, rest = source.partition(":")
    if colon and kind == "demo":
        return source
    prefix, path = ("random:", rest) if colon and kind == "random" else ("", source)
    return f"{prefix}{folder / Path(path).expanduser()}"


def _error(path: Path, complaints: list[str]) -> ConfigurationError:
    return ConfigurationError(
        str(path), [Problem((), complaint.removeprefix(f"{path}: "), None) for complaint in complaints]
    )
