"""What the views of a server show: the page `/ui`, and `python -m muxjax.top`."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from muxjax.serving.history import LLMHistory
from muxjax.serving.unit import UnitStatus


@dataclass(frozen=True, slots=True)
class Overview:
    """One moment of a server, and how it came there.

    As JSON (`/ui/status.json`, `python -m muxjax.top --json`) its fields have these same names.

    Attributes:
        version: the server's; empty if it does not tell.
        uptime_seconds: since it started.
        unit: its LLMs and their pool now.
        history: of each LLM, by name.
    """

    version: str
    uptime_seconds: float
    unit: UnitStatus
    history: Mapping[str, LLMHistory]

    def as_json(self) -> bytes:
        """One line of JSON."""
        return msgspec.json.encode(self, enc_hook=list)
