"""The GPUs that are compiled for: XLA's description of each, as a real one gives it with `--xla_dump_to`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Target:
    """A GPU to compile for.

    Attributes:
        name: what ptxas calls its architecture.
        device_kind: what JAX calls it.
        config: a GpuTargetConfigProto, as text.
    """

    name: str
    device_kind: str
    config: str

    @property
    def cores(self) -> int:
        """Its multiprocessors."""
        return self._number("core_count")

    @property
    def shared_memory(self) -> int:
        """Bytes of it that a block of threads may have, at most."""
        return self._number("shared_memory_per_block_optin")

    def _number(self, field: str) -> int:
        found = re.search(rf"\b{field}: (\d+)", self.config)
        if found is None:
            raise ValueError(f"the description of {self.device_kind} has no {field}")
        return int(found[1])


def _read(name: str, device_kind: str, file: str) -> Target:
    return Target(name, device_kind, (_FOLDER / file).read_text())


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (
            _read("sm_90a", "NVIDIA H100", "h100.pbtxt"),
            _read("sm_80", "NVIDIA A100", "a100.pbtxt"),
        )
    }
)
