"""The runs that MuxServe's authors measured, as cases to simulate."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.placement.errors import PlacementError
from muxjax.placement.known_models import find_model
from muxjax.placement.model_shape import ModelShape
from muxjax.placement.workload import Lengths
from muxjax.serving.simulation.prefill_share import prefill_share

MEASURED_SYSTEMS = ("spatial", "temporal", "muxserve")
SEQUENCE_LIMIT = 256
SHAREGPT = Lengths(prompt_mean=240.0, output_mean=230.0, variation=0.85)
"""Prompts and completions of the power-law runs: what MuxServe's filter leaves of ShareGPT.

Its placements are calculated with 161 and 337 tokens. But an LLM alone on its GPUs and seldom asked would then have
decoded a fifth faster than its profile says it can. These means were chosen on such LLMs (spatial partitioning, alpha
1.3, scale 0.5), and the variation on how many sequences of the most popular LLM ran at once there, where they fill the
memory: the longer the longest, the fewer.
"""
_GPU_GB = 80.0
_POWER_LAW_LLM_GB, _CHATLMSYS_LLM_GB = 7.6, 9.6  # what an LLM's two processes take of each GPU beside weights and KV
_POWER_LAW_SPATIAL_KV = 0.5  # of a GPU's memory
_CHATLMSYS_SPATIAL_KV = {"llama-7b": 0.65, "llama-13b": 0.5, "llama-30b": 0.375, "llama-65b": 0.375}
_MOST_DIFFERENCE = 0.2


@dataclass(frozen=True, slots=True)
class MeasuredLLM:
    """One LLM of a measured run.

    Attributes:
        shape: its model.
        unit: the mesh that it shared with LLMs of the same unit.
        gpus: size of that mesh.
        shares: compute shares of its two processes, in percent: the larger one prefills. Of the power-law runs, whose
            files do not have them, only the first is known, and the other follows from the rate (MuxServe, Alg. 2).
        rate: requests/s that were sent.
        requests: how many. The synthetic runs gave LLMs the counts of others; so the file's own number counts.
        lengths: of its prompts and completions, on average.
        throughput: finished requests/s.
        running: sequences that ran at once on average: throughput x time after the first token (Little's law); 0 where
            the file does not have the latencies.
    """

    shape: ModelShape
    unit: str
    gpus: int
    shares: tuple[int, ...]
    rate: float
    requests: int
    lengths: Lengths
    throughput: float
    running: float


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One system under one load.

    Attributes:
        case: the load.
        system: spatial, temporal or muxserve.
        comparable: whether the other systems had about as many requests.
        llms: by name.
        attainment: percent of requests within each SLO scale.
    """

    case: str
    system: str
    comparable: bool
    llms: Mapping[str, MeasuredLLM]
    attainment: Mapping[float, float]

    @property
    def throughput(self) -> float:
        """Requests/s of all LLMs."""
        return sum(llm.throughput for llm in self.llms.values())

    @property
    def is_power_law(self) -> bool:
        """Whether it is one of the runs without compute shares in their files, which were set up in other ways."""
        return any(len(llm.shares) == 1 for llm in self.llms.values())

    @property
    def is_limited(self) -> bool:
        """Whether no LLM ran more sequences than MuxServe's configurations allow without quotas.

        Its temporal runs at alpha 0.7 did, up to a thousand; so they must have had another limit, which is not known.
        """
        return all(llm.running <= SEQUENCE_LIMIT for llm in self.llms.values())

    def kv_gb(self, unit: str) -> float:
        """Memory for keys and values that the unit had on its GPUs, as its configuration said."""
        llms = [llm for llm in self.llms.values() if llm.unit == unit]
        gpus, shape = llms[0].gpus, llms[0].shape
        if self.system == "spatial":
            power_law = self.is_power_law
            part = _POWER_LAW_SPATIAL_KV if power_law else _CHATLMSYS_SPATIAL_KV.get(shape.name, _POWER_LAW_SPATIAL_KV)
            return gpus * _GPU_GB * part
        processes = _POWER_LAW_LLM_GB if self.is_power_law else _CHATLMSYS_LLM_GB
        return gpus * (_GPU_GB - processes * len(llms)) - sum(llm.shape.weight_gb for llm in llms)


def read_measured(folder: Path) -> list[MeasuredRun]:
    """The runs of all files of the folder that have cases of systems.

    Raises:
        PlacementError: a file cannot be read, or there are no such cases; with the path of the field.
    """
    runs: list[MeasuredRun] = []
    for path in sorted(folder.glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PlacementError(f"{path}: cannot be read: {error}") from error
        cases = data.get("cases", {}) if isinstance(data, dict) else {}
        for name, case in cases.items():
            try:
                runs += _runs(f"{path.stem}/{name}", case)
            except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
                raise PlacementError(f"{path}: cases.{name}: {_explain(error)}") from error
    if not runs:
        raise PlacementError(f"{folder}: there are no JSON files with measured cases; see --help for their format")
    return runs


def _explain(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else f"cannot be used: {error}"


def _runs(name: str, case: Mapping[str, Any]) -> Iterator[MeasuredRun]:
    systems = {system: data for system, data in case["systems"].items() if system in MEASURED_SYSTEMS}
    sent = {system: sum(map(_requests, data["llms"].values())) for system, data in systems.items()}
    usual = sorted(sent.values())[len(sent) // 2] if sent else 0
    lengths = _lengths(systems)
    for system, data in systems.items():
        llms = {
            llm: _llm(llm, entry, system, float(case["rates"][llm]), lengths[llm])
            for llm, entry in data["llms"].items()
        }
        attainment = {float(scale): part for scale, part in data.get("slo_attainment_pct", {}).items()}
        comparable = abs(sent[system] - usual) <= _MOST_DIFFERENCE * usual
        yield MeasuredRun(name, system, comparable, llms, attainment)


def _llm(name: str, entry: Mapping[str, Any], system: str, rate: float, lengths: Lengths) -> MeasuredLLM:
    place = str(entry["dev"] if "dev" in entry else entry["unit"])
    size = re.search(r"\d+", place)
    if size is None:
        raise ValueError(f"{name}: no size of a mesh in {place!r}")
    throughput = float(entry["tpt"] if "tpt" in entry else entry["throughput"])
    shape = find_model(entry["model"])
    return MeasuredLLM(
        shape=shape,
        unit=name if system == "spatial" else place,
        gpus=int(size[0]),
        shares=tuple(map(int, entry["mps"])) if "mps" in entry else (prefill_share(shape),),
        rate=rate,
        requests=_requests(entry),
        lengths=lengths,
        throughput=throughput,
        running=throughput * (entry.get("avg_latency_s", 0.0) - entry.get("avg_ttft_s", 0.0)),
    )


def _requests(entry: Mapping[str, Any]) -> int:
    return int(entry["n"] if "n" in entry else entry["request_num"])


def _lengths(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, Lengths]:
    """Mean lengths: what the file's token counts say, else ShareGPT's.

    Decode steps times their mean batch are the tokens that were decoded; so where nothing was preempted and computed
    again, which is when they are the fewest, they are the completions' tokens.
    """
    lengths: dict[str, Lengths] = {}
    decoded: dict[str, float] = {}
    for data in systems.values():
        for llm, entry in data["llms"].items():
            if "tokens_throughput" not in entry:
                lengths.setdefault(llm, SHAREGPT)
                continue
            output = entry["decoding_avg_batches"] * entry["decoding_batch_times"] / entry["request_num"] + 1
            total = entry["tokens_throughput"] / entry["throughput"]
            if output < decoded.get(llm, float("inf")):
                decoded[llm] = output
                lengths[llm] = Lengths(max(1.0, total - output), output)
    return lengths
