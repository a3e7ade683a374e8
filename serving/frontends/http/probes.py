"""`/health` and `/version`: what orchestrators ask."""

from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version

import msgspec
from aiohttp import web

from muxjax.serving.frontends.http.body import respond
from muxjax.serving.frontends.service import Service
from muxjax.serving.progress import LLMState


class Health(msgspec.Struct, frozen=True):
    """Whether requests are taken, and where each LLM stands."""

    status: str
    models: Mapping[str, LLMState]


class Version(msgspec.Struct, frozen=True):
    """The server's version."""

    version: str


class Probes:
    """Answers from a `Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._version = version("muxjax")

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [web.get("/health", self.health), web.get("/version", self.tell_version)]

    async def health(self, request: web.Request) -> web.Response:
        """200 while any LLM is served; 503 before that, and once the server is stopping."""
        models = {llm.llm: llm.state for llm in self._service.models()}
        if self._service.is_stopping:
            return respond(Health("stopping", models), HTTPStatus.SERVICE_UNAVAILABLE)
        if LLMState.READY not in models.values():
            status = "stalled" if LLMState.STALLED in models.values() else "loading"
            return respond(Health(status, models), HTTPStatus.SERVICE_UNAVAILABLE)
        return respond(Health("ok", models))

    async def tell_version(self, request: web.Request) -> web.Response:
        """The installed package's version."""
        return respond(Version(self._version))
