"""Requests, rates and lengths from a trace."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from muxjax.placement.errors import PlacementError
from muxjax.placement.rate_curve import has_curves, read_curves

_TIMES = ("t", "time", "timestamp", "TIMESTAMP")
_PROMPTS = ("prompt_len", "input_length", "ContextTokens")
_OUTPUTS = ("output_len", "output_length", "GeneratedTokens")
_MOST_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class TraceLoad:
    """What one model gets in a trace.

    Attributes:
        rate: requests/s over the trace's span.
        prompt_len: mean tokens of its prompts; 0 where the trace has no lengths.
        output_len: mean tokens of its completions; likewise.
    """

    rate: float
    prompt_len: float
    output_len: float


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace.

    Attributes:
        arrival: seconds after the first one.
        model: as the trace calls it; "" where it names none.
        prompt_len: tokens of the prompt.
        output_len: tokens of the completion.
    """

    arrival: float
    model: str
    prompt_len: float
    output_len: float


def read_loads(path: Path) -> dict[str, TraceLoad]:
    """The load of each model, from requests or from rates over time.

    Of a trace that names no models it is under the name "". Raises as `read_requests` and `read_curves`.
    """
    if has_curves(path):
        return {model: TraceLoad(curve.mean, 0, 0) for model, curve in read_curves(path).items()}
    requests = read_requests(path)
    span = requests[-1].arrival if requests else 0
    if span <= 0:
        raise PlacementError(f"{path}: rates need requests at different times, and it has {len(requests)} at one")
    by_model: dict[str, list[TraceRequest]] = {}
    for request in requests:
        by_model.setdefault(request.model, []).append(request)
    return {model: _load(of_model, span) for model, of_model in by_model.items()}


def read_requests(path: Path) -> list[TraceRequest]:
    """The requests by arrival.

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
    requests = []
    for place, row in rows:
        try:
            arrival, model = _time(row), str(row.get("model") or "")
            requests.append(TraceRequest(arrival, model, _length(row, _PROMPTS), _length(row, _OUTPUTS)))
        except ValueError as error:
            complaints.append(f"{path}:{place}: {error}")
    if len(complaints) > _MOST_COMPLAINTS:
        complaints[_MOST_COMPLAINTS:] = [f"{path}: and {len(complaints) - _MOST_COMPLAINTS} more like these"]
    if complaints:
        raise PlacementError(complaints)
    first = min((request.arrival for request in requests), default=0.0)
    requests = [replace(request, arrival=request.arrival - first) for request in requests]
    return sorted(requests, key=lambda request: request.arrival)


def _load(requests: list[TraceRequest], span: float) -> TraceLoad:
    prompts, outputs = (sum(getattr(request, name) for request in requests) for name in ("prompt_len", "output_len"))
    return TraceLoad(len(requests) / span, prompts / len(requests), outputs / len(requests))


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
