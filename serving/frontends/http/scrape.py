"""`/metrics`: what Prometheus scrapes."""

from aiohttp import web

from muxjax.serving.frontends.metrics import CONTENT_TYPE, Metrics
from muxjax.serving.frontends.service import Service


class Scrape:
    """Answers from a `Service`."""

    def __init__(self, service: Service) -> None:
        self._metrics = Metrics(service)

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [web.get("/metrics", self.metrics)]

    async def metrics(self, request: web.Request) -> web.Response:
        """All figures, in Prometheus's text format."""
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})
