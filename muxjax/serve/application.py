"""A server's life: open the ports, load, serve, drain."""

import asyncio
import contextlib
import itertools
import logging
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from muxjax.compile_cache import keep_compiled_programs
from muxjax.config import Config
from muxjax.serve.admin import llm_spec
from muxjax.serve.check import attention_lines
from muxjax.serve.closing import closing_block
from muxjax.serve.display import Addresses, Display, make_display
from muxjax.serve.security import Security
from muxjax.serving.engine import Engine
from muxjax.serving.frontends.grpc.admin import Admin, AdminServer
from muxjax.serving.frontends.grpc.server import GrpcServer
from muxjax.serving.frontends.http.server import HttpServer
from muxjax.serving.frontends.listen import ListenError
from muxjax.serving.frontends.service import Service
from muxjax.serving.frontends.watchdog import Watchdog
from muxjax.serving.plan import UnitPlan
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.router import Router
from muxjax.serving.trace import TraceWriter

_log = logging.getLogger(__name__)

type DevicePlans = Sequence[tuple[UnitPlan, tuple[jax.Device, ...]]]
"""The units, each with the devices that it has for itself."""

_SETTLED = (LLMState.READY, LLMState.FAILED)


class NothingToServeError(Exception):
    """No LLM could be loaded."""


class Application:
    """Serves one plan until a signal asks to stop: the first one drains, the second one stops at once.

    Construct it in the event loop. Raises ListenError.
    """

    def __init__(
        self,
        config: Config,
        plans: DevicePlans,
        security: Security,
        display: Display,
        traces: Sequence[TraceWriter] = (),
    ) -> None:
        self._config = config
        self._display = display
        self._plans = [plan for plan, _ in plans]
        self._started = time.monotonic()
        self._news: asyncio.Queue[Progress] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def report(news: Progress) -> None:
            loop.call_soon_threadsafe(self._news.put_nowait, news)

        engines = [
            Engine(plan, report, trace, devices) for (plan, devices), trace in itertools.zip_longest(plans, traces)
        ]
        self._unit = Router(engines)
        limits = config.server
        self._service = Service(
            self._unit,
            list(config.llms),
            max_requests=limits.max_requests,
            request_timeout=limits.request_timeout,
        )
        self._security = security
        self._server = GrpcServer(
            self._service,
            security.access,
            tls=security.tls,
            host=limits.host,
            port=limits.port,
            max_message_bytes=limits.max_message_bytes,
            max_requests=limits.max_requests,
        )
        self._http: HttpServer | None = None
        if limits.http_port is not None:
            self._http = HttpServer(
                self._service,
                security.access,
                tls=security.tls,
                host=limits.host,
                port=limits.http_port,
                max_body_bytes=limits.max_message_bytes,
            )

        self._admin: AdminServer | None = None
        if limits.admin_port is not None:
            admin = Admin(self._unit, self._service, llm_spec)
            self._admin = AdminServer(admin, security.admin, port=limits.admin_port)

    async def run(self) -> None:
        """Serve until a signal. Raises NothingToServeError."""
        with _signals() as (stop, stop_at_once):
            await self._server.start()
            if self._http is not None:
                await self._http.start()
            if self._admin is not None:
                await self._admin.start()
            self._display.start(self._addresses(), list(self._config.llms))
            for warning in self._security.warnings:
                _log.warning(warning)
            loading = asyncio.create_task(self._load())
            try:
                await _first(loading, asyncio.create_task(stop.wait()))
                if loading.done():
                    loading.result()
                self._display.stopping(self._service.num_requests)
                drain = asyncio.create_task(self._service.drain(self._config.server.drain_seconds))
                await _first(drain, asyncio.create_task(stop_at_once.wait()))
            finally:
                loading.cancel()
                self._service.close()
                if self._admin is not None:
                    await self._admin.stop()
                if self._http is not None:
                    await self._http.stop()
                await self._server.stop()

    def _addresses(self) -> Addresses:
        http = None if self._http is None else self._http.address
        admin = None if self._admin is None else self._admin.address
        return Addresses(grpc=self._server.address, http=http, encrypted=self._security.tls is not None, admin=admin)

    def close(self) -> None:
        """End the engine; waits for what it is compiling, and blocks the event loop, where nothing is left to do."""
        self._unit.close()
        self._display.stopped()

    async def _load(self) -> None:
        """Load, then follow the LLMs' news for ever. Raises NothingToServeError."""
        self._unit.start()
        watchdog = Watchdog(self._unit, self._service, self._config.server.engine_timeout, self._tell)
        beside = [asyncio.create_task(self._prepare_kernels()), asyncio.create_task(watchdog.run())]
        try:
            await self._follow_news()
        finally:
            for task in beside:
                task.cancel()

    async def _prepare_kernels(self) -> None:
        """Say what attention runs on; where it is compiled first, weights are loaded meanwhile."""
        self._display.phase("attention", "prepares its kernels, which takes a moment the first time")
        for plan in self._plans:
            for line in await asyncio.to_thread(attention_lines, plan):
                self._display.phase("attention", line)

    async def _follow_news(self) -> None:
        is_settled = False
        while True:
            self._tell(await self._news.get())
            if not is_settled and all(llm.state in _SETTLED for llm in self._service.models()):
                is_settled = True
                self._show_closing()

    def _tell(self, progress: Progress) -> None:
        self._service.update(progress)
        self._server.update(progress)
        self._display.update(progress)

    def _show_closing(self) -> None:
        ready = [llm.endpoint for llm in self._service.models() if llm.endpoint is not None]
        if not ready:
            raise NothingToServeError("no model could be loaded")
        closing = closing_block(self._config, ready, self._addresses())
        self._display.serving([endpoint.name for endpoint in ready], time.monotonic() - self._started, closing)


@contextlib.contextmanager
def _signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Events of the first and of the second SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield first, second
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _first(work: asyncio.Task[None], event: asyncio.Task[bool]) -> None:
    """Wait for either; the event is not waited for any longer."""
    await asyncio.wait((work, event), return_when=asyncio.FIRST_COMPLETED)
    event.cancel()


def serve(config: Config, plans: DevicePlans, security: Security, trace: Path | None = None) -> int:
    """Serve until asked to stop, with a timeline written to `trace`; returns the process's exit code."""
    if config.compile.cache is not None:
        keep_compiled_programs(config.compile.cache)
    try:
        writers = [TraceWriter(path) for path in _trace_paths(trace, len(plans))]
    except OSError as error:
        print(f"--trace: cannot write {trace}: {error.strerror}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_serve(config, plans, security, writers))
    except ListenError as error:
        print(error, file=sys.stderr)
        return 2
    except NothingToServeError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _trace_paths(path: Path | None, units: int) -> list[Path]:
    """One file for each unit: FILE, or FILE with the unit's number before its suffix where there are several."""
    if path is None:
        return []
    return [path] if units == 1 else [path.with_stem(f"{path.stem}-{unit}") for unit in range(units)]


async def _serve(config: Config, plans: DevicePlans, security: Security, traces: Sequence[TraceWriter]) -> None:
    application = Application(config, plans, security, make_display(), traces)
    try:
        await application.run()
    finally:
        application.close()
