"""Rates and lengths from a trace of requests."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from muxjax.placement.errors import PlacementError

_TIMES = ("t", "time", "timestamp", "TIMESTAMP")
_PROMPTS = ("prompt_len", "input_length", "ContextTokens")
_OUTPUTS = ("output_len", "output_length", "GeneratedTokens")
_MOST_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class TraceLoad:
    """What one model gets in a trace.

    Attributes:
        rate: requests/s over the trace's span.
        prompt_len: mean tokens of its prompts.
        output_len: mean tokens of its completions.
    """

    rate: float
    prompt_len: float
    output_len: float


def read_loads(path: Path) -> dict[str, TraceLoad]:
    """The load of each model; of a trace that names none, under the name "".

    Read are JSON with a list of `requests`, JSON lines, and CSV with a header. A request has a time (`t`, `time` or
    `timestamp`, in seconds or as a date), lengths (`prompt_len` and `output_len`, or Azure's and Mooncake's names for
    them) and maybe a `model`. Mooncake's `timestamp` is in milliseconds.

    Raises:
        PlacementError: the file cannot be read, or with the line (in JSON, the request) of everything wrong.
    """
    try:
        rows = list(_rows(path))
    except (OSError, ValueError) as error:
        raise PlacementError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    complaints: list[str] = []
    requests: dict[str, list[tuple[float, float]]] = {}
    times = []
    for place, row in rows:
        try:
            time, lengths = _time(row), (_length(row, _PROMPTS), _length(row, _OUTPUTS))
        except ValueError as error:
            complaints.append(f"{path}:{place}: {error}")
            continue
        times.append(time)
        requests.setdefault(str(row.get("model") or ""), []).append(lengths)
    if len(complaints) > _MOST_COMPLAINTS:
        complaints[_MOST_COMPLAINTS:] = [f"{path}: and {len(complaints) - _MOST_COMPLAINTS} more like these"]
    span = max(times) - min(times) if times else 0
    if not complaints and span <= 0:
        complaints.append(f"{path}: rates need requests at different times, and it has {len(times)} at one")
    if complaints:
        raise PlacementError(complaints)
    return {model: _load(of_model, span) for model, of_model in requests.items()}


def _load(lengths: list[tuple[float, float]], span: float) -> TraceLoad:
    prompts, outputs = zip(*lengths, strict=True)
    return TraceLoad(len(lengths) / span, sum(prompts) / len(lengths), sum(outputs) / len(lengths))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Requests with their lines; in a JSON file, with their numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            reader = csv.DictReader(file)
            for row in reader:
                yield reader.line_num, row
        elif path.suffix == ".json":
            data = json.load(file)
            if not isinstance(data, dict) or not isinstance(data.get("requests"), list):
                raise ValueError("it must be an object with a list of requests")
            yield from enumerate((row if isinstance(row, dict) else {} for row in data["requests"]), start=1)
        else:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _json_line(line)


def _json_line(line: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _time(row: Mapping[str, object]) -> float:
    value = next((row[name] for name in _TIMES if row.get(name) is not None), None)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value[:26]).timestamp()
        except ValueError:
            pass
    milliseconds = "hash_ids" in row
    return _number(value, "a time", _TIMES) / (1000 if milliseconds else 1)


def _length(row: Mapping[str, object], names: tuple[str, ...]) -> float:
    value = next((row[name] for name in names if row.get(name) is not None), None)
    return _number(value, "a length", names)


def _number(value: object, what: str, names: tuple[str, ...]) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(f"needs {what} from 0 in {' or '.join(names)}, not {value!r}")
    return number
