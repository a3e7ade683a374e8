"""Latencies from a model's and a GPU's figures, with a few efficiencies fitted to measurements."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from muxjax.placement.cost.cost_model import Seconds
from muxjax.placement.gpus import Gpu
from muxjax.placement.model_shape import ModelShape

_SHARES = (30, 40, 50, 60, 70, 80, 90, 100)
_MOST_SEQUENCES_PER_GPU = 256


@dataclass(frozen=True, slots=True)
class Efficiencies:
    """What a job reaches of the GPU's figures; prefills and decode steps have their own.

    Attributes:
        layer_seconds: a layer takes at least this, whatever its work (kernel launches).
        parallel_seconds: the same in addition under tensor parallelism.
        compute: part of the peak arithmetic.
        compute_share: exponent with which arithmetic falls with the compute share.
        memory: part of the peak bandwidth.
        memory_share: exponent with which bandwidth falls with the compute share; few multiprocessors fill much of it.
        exchange: for each byte of activations that tensor parallelism exchanges, seconds x bandwidth.
        sharpness: how suddenly one limit takes over from the other; a maximum at infinity.
    """

    layer_seconds: float
    parallel_seconds: float
    compute: float
    compute_share: float
    memory: float
    memory_share: float
    exchange: float
    sharpness: float


# Fitted by `python -m muxjax.placement.cost.fit` to LLaMA of 7B to 65B on A100-80GB. Other GPUs are taken to reach as
# much of their own figures: for them this is derived, not measured.
PREFILL = Efficiencies(
    layer_seconds=0.0004264,
    parallel_seconds=0.00015,
    compute=0.6587,
    compute_share=0.9021,
    memory=3.308,  # above one: prefills of the table are never bound by memory
    memory_share=0.8946,
    exchange=34.26,
    sharpness=1.69,
)
DECODE = Efficiencies(
    layer_seconds=0.0002799,
    parallel_seconds=0.0001039,
    compute=0.4105,
    compute_share=0.9055,
    memory=0.8106,
    memory_share=0.3304,
    exchange=75.52,
    sharpness=1.981,
)


class Roofline:
    """Every job takes as long as the slowest of its launches, its arithmetic and its memory traffic."""

    def __init__(self, gpu: Gpu, prefill: Efficiencies = PREFILL, decode: Efficiencies = DECODE) -> None:
        self._gpu, self._prefill, self._decode = gpu, prefill, decode

    def gpu_counts(self, model: ModelShape) -> Sequence[int]:
        """Meshes over which the heads can be divided."""
        return [gpus for gpus in (1, 2, 4, 8) if model.heads % gpus == 0]

    def shares(self, model: ModelShape, gpus: int) -> Sequence[int]:
        """Those that MuxServe profiles."""
        return _SHARES

    def max_batch(self, model: ModelShape, gpus: int, share: int) -> int:
        """As many sequences as MuxServe profiles."""
        return _MOST_SEQUENCES_PER_GPU * gpus

    def prefill_seconds(
        self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, prompt_len: ArrayLike
    ) -> Seconds:
        """Prefill of `batch` prompts of `prompt_len` tokens each."""
        batch, length = np.asarray(batch, np.float64), np.asarray(prompt_len, np.float64)
        width = model.heads * model.head_dim
        flops = 2 * model.active_parameters * batch * length + 2 * model.layers * width * batch * length**2
        traffic = model.weight_bytes + model.kv_bytes_per_token * batch * length
        return self._seconds(self._prefill, model, gpus, share, flops, traffic, batch * length)

    def decode_seconds(self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, context: ArrayLike) -> Seconds:
        """One decode step of `batch` sequences of `context` tokens each."""
        batch, context = np.asarray(batch, np.float64), np.asarray(context, np.float64)
        width = model.heads * model.head_dim
        flops = 2 * model.active_parameters * batch + 4 * model.layers * width * batch * context
        traffic = model.weight_bytes + model.kv_bytes_per_token * batch * context
        return self._seconds(self._decode, model, gpus, share, flops, traffic, batch)

    def mean_decode_seconds(
        self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, prompt_len: float, output_len: float
    ) -> Seconds:
        """At the middle of the completion."""
        return self.decode_seconds(model, gpus, share, batch, prompt_len + output_len / 2)

    def _seconds(
        self,
        of_peak: Efficiencies,
        model: ModelShape,
        gpus: int,
        share: int,
        flops: Seconds,
        traffic: Seconds,
        tokens: Seconds,
    ) -> Seconds:
        part = share / 100
        parallel = gpus > 1
        launches = model.layers * (of_peak.layer_seconds + parallel * of_peak.parallel_seconds)
        compute = flops / (gpus * self._gpu.tflops * 1e12 * of_peak.compute * part**of_peak.compute_share)
        memory = traffic / (gpus * self._gpu.bandwidth_gb_s * 1e9 * of_peak.memory * part**of_peak.memory_share)
        exchanged = parallel * 2 * model.layers * tokens * model.hidden_size * 2
        exchange = of_peak.exchange * exchanged / (self._gpu.bandwidth_gb_s * 1e9)
        limits = np.stack(np.broadcast_arrays(launches, compute + exchange, memory))
        return np.power(np.sum(limits**of_peak.sharpness, axis=0), 1 / of_peak.sharpness)
