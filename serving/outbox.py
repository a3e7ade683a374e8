"""Outputs on their way from the engine's thread to those who asked for them."""

import logging

from muxjax.serving.request import Output
from muxjax.serving.unit import Deliver

_log = logging.getLogger(__name__)


class Outbox:
    """Collects a step's outputs, so that each receiver is called once a step."""

    def __init__(self) -> None:
        self._outputs: list[tuple[Deliver, list[Output]]] = []

    def put(self, deliver: Deliver, output: Output) -> None:
        """Add an output for a receiver; receivers are few, and compared with ==, as bound methods must be."""
        for receiver, outputs in self._outputs:
            if receiver == deliver:
                outputs.append(output)
                return
        self._outputs.append((deliver, [output]))

    def flush(self) -> None:
        """Deliver everything."""
        pending, self._outputs = self._outputs, []
        for deliver, outputs in pending:
            try:
                deliver(outputs)
            except Exception:
                _log.exception("a receiver failed; its outputs are lost")
