"""Looks whether the units' loops go round, from the frontends' event loop, which goes on when they do not."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from muxjax.serving.frontends.service import Service
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.unit import Unit

_LOOKS = 4  # within the time that a loop may take

_log = logging.getLogger(__name__)


class Watchdog:
    """Tells that an LLM is STALLED when its unit's loop has not gone round for `limit` seconds, and when it does again.

    Args:
        unit: what is watched.
        service: knows where the LLMs stand.
        limit: seconds that a turn of a loop may take.
        tell: hears of changes, as of all other news of an LLM.
    """

    def __init__(self, unit: Unit, service: Service, limit: float, tell: Callable[[Progress], None]) -> None:
        self._unit = unit
        self._service = service
        self._limit = limit
        self._tell = tell
        self._before: dict[str, Progress] = {}  # what is to be told again when an LLM goes on

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            for progress in self._service.models():
                self._look(progress)
            await asyncio.sleep(min(self._limit / _LOOKS, 1.0))

    def _look(self, progress: Progress) -> None:
        is_stalled = self._unit.seconds_since_turn(progress.llm) > self._limit
        if is_stalled and progress.state is LLMState.READY:
            _log.error("%s: the engine has not gone round for %g s", progress.llm, self._limit)
            self._before[progress.llm] = progress
            self._tell(replace(progress, state=LLMState.STALLED, error="the engine does not respond"))
        elif progress.state is LLMState.STALLED and not is_stalled:
            _log.warning("%s: the engine goes on", progress.llm)
            self._tell(self._before.pop(progress.llm))
