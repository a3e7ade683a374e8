"""A file of measured latencies, in the format of MuxServe's profiles."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from muxjax.placement.errors import PlacementError

_MOST_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class Latency:
    """One measurement in seconds; None where it was not run (-1 in the file)."""

    prefill: float | None
    decode: float | None


Batches = Mapping[int, Mapping[int, Latency]]
"""Batch size -> length -> latency, in the order of the file (which MuxServe's averages depend on)."""


@dataclass(frozen=True)
class CostTable:
    """Latencies by model, GPUs, compute share in percent, batch size and length in tokens.

    Attributes:
        name: the file.
        entries: model -> GPUs -> share -> batch -> length -> latency.
    """

    name: str
    entries: Mapping[str, Mapping[int, Mapping[int, Batches]]]

    def batches(self, model: str, gpus: int, share: int) -> Batches:
        """The measurements of a model on a mesh. Raises KeyError where there are none."""
        return self.entries[model][gpus][share]

    def check(self, models: Iterator[str] | list[str], most_gpus: int) -> None:
        """See that these models can be costed on meshes up to a size.

        Raises:
            PlacementError: a model is not in the table, or all prefills or all decode steps at a share are holes,
                or the share 100 is missing, with which prefills run.
        """
        complaints = []
        for model in dict.fromkeys(models):
            if model not in self.entries:
                complaints.append(f"{self.name}: {model}: is not in the table; it has {', '.join(self.entries)}")
                continue
            for gpus, shares in self.entries[model].items():
                if gpus <= most_gpus and 100 not in shares:
                    complaints.append(f"{self.name}: {model}.{gpus}: has no share 100, with which prefills run")
                if gpus <= most_gpus:
                    complaints += (
                        f"{self.name}: {model}.{gpus}.{share}: no {kind} was run (all are -1): "
                        "profile it again, or delete this entry"
                        for share, batches in shares.items()
                        for kind in _unmeasured(batches)
                    )
        if complaints:
            raise PlacementError(complaints)


def _unmeasured(batches: Batches) -> list[str]:
    latencies = [latency for lengths in batches.values() for latency in lengths.values()]
    prefill = ["prefill"] if all(latency.prefill is None for latency in latencies) else []
    return prefill + (["decode step"] if all(latency.decode is None for latency in latencies) else [])


def read_table(path: Path) -> CostTable:
    """Read `{model: {GPUs: {share: {batch: {length: {"prefill": ms, "decoding": ms}}}}}}`; -1 is a hole.

    Raises:
        PlacementError: the file cannot be read, or with the path of every entry that is wrong.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlacementError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    reader = _Reader()
    entries = {
        model: {
            gpus: {
                share: {
                    batch: {length: reader.latency(entry, at) for length, entry, at in reader.numbered(lengths, at)}
                    for batch, lengths, at in reader.numbered(batches, at)
                }
                for share, batches, at in reader.numbered(shares, at)
            }
            for gpus, shares, at in reader.numbered(meshes, at)
        }
        for model, meshes, at in reader.named(data)
    }
    if complaints := reader.complaints:
        left_out = len(complaints) - _MOST_COMPLAINTS
        more = [f"and {left_out} more like these"] if left_out > 0 else []
        raise PlacementError(f"{path}: {complaint}" for complaint in complaints[:_MOST_COMPLAINTS] + more)
    return CostTable(str(path), entries)


class _Reader:
    """Walks through the nested objects and collects what is wrong."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def named(self, data: object) -> Iterator[tuple[str, object, str]]:
        """The models, with their paths."""
        if not isinstance(data, dict) or not data:
            self.complaints.append("must be an object of models and their latencies")
            return
        for name, value in data.items():
            yield name, value, name

    def numbered(self, data: object, at: str) -> Iterator[tuple[int, object, str]]:
        """The entries of an object whose keys are whole numbers, with their paths."""
        if not isinstance(data, dict) or not data:
            self.complaints.append(f"{at}: must be an object whose keys are whole numbers, and not empty")
            return
        for key, value in data.items():
            if key.isdecimal() and int(key) > 0:
                yield int(key), value, f"{at}.{key}"
            else:
                self.complaints.append(f"{at}.{key}: the key must be a positive whole number")

    def latency(self, entry: object, at: str) -> Latency:
        """Milliseconds to seconds."""
        if not isinstance(entry, dict):
            self.complaints.append(f'{at}: must be {{"prefill": ms, "decoding": ms}}')
            return Latency(None, None)
        return Latency(self._seconds(entry, "prefill", at), self._seconds(entry, "decoding", at))

    def _seconds(self, entry: Mapping[str, object], kind: str, at: str) -> float | None:
        value = entry.get(kind)
        if value == -1:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf"):
            return value / 1000
        self.complaints.append(f"{at}.{kind}: must be positive milliseconds, or -1 for not run, not {value!r}")
        return None
