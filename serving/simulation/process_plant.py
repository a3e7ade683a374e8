"""How long jobs take in processes that share a device: MuxServe's, and those of its baselines."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from muxjax.placement.cost.cost_model import scheduling_seconds
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.simulation.latencies import Latencies, ServedModel
from muxjax.serving.simulation.load import Load

JOB_HOST = 0.0025
"""Seconds of the host for every job: processes poll shared memory for requests, and hand tokens back through it."""
GPU_HOST = 0.0003
"""Seconds more for every GPU but the first: one process prepares the job and hands its inputs to the others in turn."""
SEQUENCE_HOST = 0.4
"""Which part of the time that MuxServe's estimates add for each sequence of a decode step is not hidden by the device.

Half of it is for the sequence, half for its block tables, of which each GPU gets those of its own heads.
"""


class ProcessPlant:
    """Prefills and decodes run beside one another (MuxServe section 3.3): each job has its compute share at most.

    Where the shares in flight add up to more than the device, all shrink in proportion. While the host prepares a job
    or reads its tokens, the job's part of the device does nothing.
    """

    def __init__(self, latencies: Latencies, models: Mapping[str, ServedModel]) -> None:
        self._latencies = latencies
        self._shares = {
            (llm, kind): served.prefill_share if kind is JobKind.PREFILL else served.decode_share
            for llm, served in models.items()
            for kind in JobKind
        }
        self._job_host = {llm: JOB_HOST + GPU_HOST * (served.gpus - 1) for llm, served in models.items()}
        self._sequence_host = {
            llm: SEQUENCE_HOST * scheduling_seconds(served.shape) * (1 + 1 / served.gpus) / 2
            for llm, served in models.items()
        }

    def prefill_seconds(self, load: Load, in_flight: Iterable[tuple[str, JobKind]]) -> float:
        """Of a prefill beside the jobs in flight, itself among them. All its prompts run as one batch."""
        share = self._share(load, in_flight)
        return self._job_host[load.llm] + self._latencies.prefill(load.llm, share, load.sequences, load.tokens)

    def decode_seconds(self, load: Load, in_flight: Iterable[tuple[str, JobKind]], steps: int) -> NDArray[np.float64]:
        """Of so many decode steps in a row, likewise."""
        host = self._job_host[load.llm] + load.sequences * self._sequence_host[load.llm]
        share = self._share(load, in_flight)
        return host + self._latencies.decodes(load.llm, share, load.sequences, load.tokens, steps)

    def _share(self, load: Load, in_flight: Iterable[tuple[str, JobKind]]) -> float:
        """What the job gets of the compute, in percent."""
        own = self._shares[load.llm, load.kind]
        total = sum(self._shares[job] for job in in_flight)
        return own * min(1.0, 100 / max(total, own))
