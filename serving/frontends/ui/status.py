"""`/ui/status.json`: the figures that the page shows."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator
from importlib.metadata import version

from aiohttp import web

from muxjax.serving.frontends.access import Caller
from muxjax.serving.frontends.http.middleware import CALLER
from muxjax.serving.frontends.service import Service
from muxjax.serving.history import History
from muxjax.serving.overview import Overview

_SAMPLE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class LiveStatus:
    """Looks at the unit once a second, however many people look at the page.

    `sampling` must be one of the application's cleanup contexts.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._version = version("muxjax")
        self._started = time.monotonic()
        self._history = History()
        self._overview = self._sample()
        self._encoded: dict[frozenset[str] | None, bytes] = {}  # by the LLMs that the caller may see

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [web.get("/ui/status.json", self.status)]

    async def sampling(self, application: web.Application) -> AsyncIterator[None]:
        """Take samples while the application runs."""
        task = asyncio.create_task(self._sample_for_ever())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def status(self, request: web.Request) -> web.Response:
        """The newest `Overview` as JSON, with the LLMs that the caller may ask; encoded once for all such callers."""
        caller = request[CALLER]
        if caller.models not in self._encoded:
            self._encoded[caller.models] = self._seen_by(caller).as_json()
        body = self._encoded[caller.models]
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    def _seen_by(self, caller: Caller) -> Overview:
        unit = self._overview.unit
        llms = tuple(llm for llm in unit.llms if caller.may_ask(llm.name))
        history = {llm.name: self._overview.history[llm.name] for llm in llms}
        return dataclasses.replace(self._overview, unit=dataclasses.replace(unit, llms=llms), history=history)

    def _sample(self) -> Overview:
        now = time.monotonic()
        unit = self._service.status()
        self._history.add(unit, now)
        return Overview(self._version, now - self._started, unit, self._history.llms)

    async def _sample_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            try:
                self._overview = self._sample()
                self._encoded.clear()
            except Exception:
                _log.exception("the unit does not tell its status: /ui shows an old one")
