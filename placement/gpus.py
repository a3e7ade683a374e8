"""GPUs by name: published figures, from which the roofline calculates."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        memory_gb: its memory.
        bandwidth_gb_s: peak memory bandwidth.
        tflops: peak dense 16-bit throughput.
    """

    memory_gb: float
    bandwidth_gb_s: float
    tflops: float


KNOWN_GPUS: Mapping[str, Gpu] = {
    "a100-40gb": Gpu(40, 1555, 312),
    "a100-80gb": Gpu(80, 2039, 312),
    "h100-80gb": Gpu(80, 3350, 989),
    "h200-141gb": Gpu(141, 4800, 989),
    "l40s-48gb": Gpu(48, 864, 362),
}
