"""`/v1/models`: the LLMs that can be asked now."""

import time

import msgspec
from aiohttp import web

from muxjax.serving.endpoint import Endpoint
from muxjax.serving.frontends.http.body import respond
from muxjax.serving.frontends.http.middleware import CALLER
from muxjax.serving.frontends.service import Service
from muxjax.serving.progress import LLMState


class Model(msgspec.Struct, frozen=True):
    """One LLM; `max_model_len` is how many tokens a prompt and its completion have together, as vLLM names it."""

    id: str
    created: int
    max_model_len: int
    object: str = "model"
    owned_by: str = "muxjax"


class ModelList(msgspec.Struct, frozen=True):
    """All of them."""

    data: list[Model]
    object: str = "list"


class Models:
    """Answers from a `Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._created = int(time.time())

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [web.get("/v1/models", self.list), web.get("/v1/models/{model:.+}", self.retrieve)]

    async def list(self, request: web.Request) -> web.Response:
        """The ready LLMs that the caller may ask."""
        asked = (llm for llm in self._service.models() if request[CALLER].may_ask(llm.llm))
        ready = (llm.endpoint for llm in asked if llm.state is LLMState.READY)
        return respond(ModelList([self._model(endpoint) for endpoint in ready if endpoint is not None]))

    async def retrieve(self, request: web.Request) -> web.Response:
        """One LLM, by its name."""
        endpoint = self._service.endpoint(request.match_info["model"])
        request[CALLER].check_model(endpoint.name)
        return respond(self._model(endpoint))

    def _model(self, endpoint: Endpoint) -> Model:
        return Model(endpoint.name, self._created, endpoint.max_context)
