"""The HTTP server, in the same event loop as the gRPC server."""

from aiohttp import web

from muxjax.serving.frontends.access import AccessControl
from muxjax.serving.frontends.http.chat import ChatCompletions
from muxjax.serving.frontends.http.completions import Completions
from muxjax.serving.frontends.http.middleware import ask_for_key, echo_request_id, name_requests, tell_errors
from muxjax.serving.frontends.http.models import Models
from muxjax.serving.frontends.http.openapi import OpenApi
from muxjax.serving.frontends.http.probes import Probes
from muxjax.serving.frontends.http.scrape import Scrape
from muxjax.serving.frontends.http.tokens import Tokens
from muxjax.serving.frontends.listen import bind, shown_host
from muxjax.serving.frontends.service import Service
from muxjax.serving.frontends.tls import TLS
from muxjax.serving.frontends.ui.files import PageFiles
from muxjax.serving.frontends.ui.status import LiveStatus

_HEADER_BYTES = 8190  # of the request line, and of each of up to 128 headers
_KEEPALIVE_SECONDS = 75.0  # how long a connection may go without a whole request, from its first byte on
_LAST_WORDS_SECONDS = 1.0  # for the ends of streams to reach their clients
_BACKLOG = 1024


class HttpServer:
    """OpenAI-compatible HTTP.

    Construct it in the event loop. It holds its port from construction on. Raises ListenError.

    Attributes:
        address: host:port, with the port that was found when 0 was asked for.
    """

    def __init__(
        self,
        service: Service,
        access: AccessControl,
        *,
        tls: TLS | None = None,
        host: str = "127.0.0.1",
        port: int = 8000,
        max_body_bytes: int = 4 << 20,
    ) -> None:
        self._runner = web.AppRunner(
            _application(service, access, max_body_bytes),
            handle_signals=False,
            handler_cancellation=True,  # a client that leaves ends its request
            access_log=None,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            shutdown_timeout=_LAST_WORDS_SECONDS,
        )
        self._tls = None if tls is None else tls.http
        self._socket = bind(host, port, option="http_port")
        self.address = f"{shown_host(host)}:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        """Answer requests."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket, backlog=_BACKLOG, ssl_context=self._tls).start()

    async def stop(self) -> None:
        """Close the port, end what still runs, and return."""
        await self._runner.cleanup()
        self._socket.close()


def _application(service: Service, access: AccessControl, max_body_bytes: int) -> web.Application:
    application = web.Application(
        middlewares=[name_requests, tell_errors, ask_for_key(access)], client_max_size=max_body_bytes
    )
    application.on_response_prepare.append(echo_request_id)
    live_status = LiveStatus(service)
    application.cleanup_ctx.append(live_status.sampling)
    for answers in (
        Probes(service),
        Scrape(service),
        Models(service),
        Completions(service),
        ChatCompletions(service),
        Tokens(service),
        OpenApi(),
        PageFiles(),
        live_status,
    ):
        application.add_routes(answers.routes())
    return application
