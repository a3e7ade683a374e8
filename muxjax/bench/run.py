"""Runs parts of the benchmark and gathers what they find."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muxjax.bench import colocated, overhead, quantized, reading, schedule, startup, steps, throughput
from muxjax.bench.checkpoint import write_checkpoint
from muxjax.bench.frontends import part as frontends
from muxjax.bench.machine import describe_machine, load_average
from muxjax.bench.result import Part, rounded
from muxjax.bench.settings import Settings
from muxjax.models.config import DecoderConfig

Tell = Callable[[str], None]

WITH_MODEL: Mapping[str, Callable[[Settings, Path, DecoderConfig, Tell], Part]] = {
    "throughput": throughput.measure,
    "overhead": overhead.measure,
    "colocated": colocated.measure,
    "steps": steps.measure,
    "quantization": quantized.measure,
}
ALONE: Mapping[str, Callable[[Settings, Tell], Part]] = {
    "schedule": schedule.measure,
    "startup": startup.measure,
    "checkpoint": reading.measure,
    "frontends": frontends.measure,
}
PARTS = (*WITH_MODEL, *ALONE)


def run(parts: tuple[str, ...], settings: Settings, tell: Tell, keep: Callable[[dict[str, Any]], None]) -> None:
    """Measure; `keep` is given everything so far after each part, ready for JSON. Raises BenchError."""
    results: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "settings": _public(settings),
        "parts": {},
        "budgets": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        model, config = Path(folder), None
        for name in parts:
            load_before, started = load_average(), time.perf_counter()
            if name in WITH_MODEL:
                if config is None:
                    tell("writing a model of random weights")
                    config = write_checkpoint(model, settings.model)
                    results["parameters"] = config.num_parameters
                part = WITH_MODEL[name](settings, model, config, tell)
            else:
                part = ALONE[name](settings, tell)
            spent = {"took_seconds": time.perf_counter() - started, "load_average": [load_before, load_average()]}
            results["parts"][name] = rounded({**part.figures, **spent})
            results["budgets"] += [budget.as_dict() for budget in part.budgets]
            keep(results)


def _public(settings: Settings) -> dict[str, Any]:
    """The settings without paths of this machine."""
    names = (field.name for field in fields(settings))
    values = {name: getattr(settings, name) for name in names if name not in ("serve_config", "torch_python")}
    return {**values, "model": dict(settings.model)}
