"""The file that `muxjax.place` reads: a cluster, and LLMs with their rates."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from muxjax.config.fields import resolve_path
from muxjax.config.schema import Section
from muxjax.placement.errors import PlacementError
from muxjax.placement.gpus import KNOWN_GPUS, Gpu
from muxjax.placement.known_models import find_model
from muxjax.placement.model_shape import ModelShape
from muxjax.serving.errors import nearest

_DEFAULT_GPU = "a100-80gb"
_PROMPT_LEN, _OUTPUT_LEN = 161.0, 337.0  # the means of ShareGPT, with which MuxServe's authors calculate

Positive = Annotated[float, Field(gt=0)]


class ClusterSection(Section):
    """The GPUs. `gpu` names a known kind; figures given beside it, or without it, count instead of its own."""

    nnodes: int = Field(ge=1, le=100_000)
    ngpus_per_node: int = Field(ge=1, le=64)
    gpu: str | None = None
    memory_per_gpu_gb: Positive | None = None
    bandwidth_gb_s: Positive | None = None
    tflops: Positive | None = None

    @field_validator("gpu")
    @classmethod
    def _known_gpu(cls, name: str | None) -> str | None:
        if name is not None and name.lower() not in KNOWN_GPUS:
            known = ", ".join(KNOWN_GPUS)
            raise ValueError(
                f"is no GPU that is known here{nearest(name.lower(), KNOWN_GPUS)}: the known ones are {known}; "
                "for another one leave gpu out and give memory_per_gpu_gb, bandwidth_gb_s and tflops"
            )
        return name

    def gpu_figures(self) -> Gpu:
        """Memory, bandwidth and arithmetic of each GPU."""
        known = KNOWN_GPUS[(self.gpu or _DEFAULT_GPU).lower()]
        return Gpu(
            self.memory_per_gpu_gb or known.memory_gb,
            self.bandwidth_gb_s or known.bandwidth_gb_s,
            self.tflops or known.tflops,
        )


def _parse_model(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a model's name, a Hugging Face folder or a config.json, not {value!r}")
    try:
        find_model(value, (info.context or {}).get("folder", Path()))
    except PlacementError as error:
        raise ValueError("; ".join(error.complaints)) from error
    return value


class ModelSection(Section):
    """One LLM; a missing rate is taken from the trace of `rates`, missing lengths from there or from the file's."""

    name: str = Field(min_length=1)
    model: Annotated[str, BeforeValidator(_parse_model)]
    rate: Positive | None = None
    prompt_len: Positive | None = None
    output_len: Positive | None = None
    slo: Positive | None = None

    def shape(self, folder: Path) -> ModelShape:
        """The model's sizes."""
        return find_model(self.model, folder)

    def source(self, folder: Path) -> str | None:
        """Where the weights are, as `muxjax.serve` takes it; None for a model that is only named."""
        path = (folder / Path(self.model).expanduser()).absolute()
        if path.is_dir():
            return str(path)
        return f"random:{path}" if path.is_file() else None


def _parse_trace(value: object, info: ValidationInfo) -> object:
    return resolve_path(value, info) if isinstance(value, str) and value else value


class RatesSection(Section):
    """A trace of requests; `total` rescales its rates so that those of the file's LLMs add up to it."""

    trace: Annotated[Path, BeforeValidator(_parse_trace)]
    total: Positive | None = None


class PlaceFile(Section):
    """The whole file."""

    cluster: ClusterSection
    models: list[ModelSection] = Field(min_length=1)
    rates: RatesSection | None = None
    prompt_len: Positive | None = None
    output_len: Positive | None = None
    avg_prompt_len: Positive = _PROMPT_LEN
    avg_output_len: Positive = _OUTPUT_LEN
