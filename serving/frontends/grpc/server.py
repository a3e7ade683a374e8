"""The gRPC server: the native service, the Open Inference Protocol, health and reflection on one port."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from muxjax.serving.frontends.access import AccessControl
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.access import AskForKey
from muxjax.serving.frontends.grpc.health import Health
from muxjax.serving.frontends.grpc.inference_pb2_grpc import add_InferenceServicer_to_server
from muxjax.serving.frontends.grpc.malformed import RefuseMalformed
from muxjax.serving.frontends.grpc.servicer import Inference
from muxjax.serving.frontends.listen import ListenError, bind, shown_host
from muxjax.serving.frontends.oip import handlers as oip
from muxjax.serving.frontends.oip.servicer import OpenInference
from muxjax.serving.frontends.patience import STALL_SECONDS
from muxjax.serving.frontends.service import Service
from muxjax.serving.frontends.tls import TLS
from muxjax.serving.progress import LLMState, Progress

SERVICE = pb.DESCRIPTOR.services_by_name["Inference"].full_name

_MODEL_SERVICES = (SERVICE, oip.SERVICE)
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_RPCS_PER_REQUEST = 4  # an ended call counts for gRPC until its client has read its status
_SPARE_RPCS = 64  # for health, status and lists while every place for Generate is taken
_PENDING_CALLS = 32_768
_LAST_WORDS_SECONDS = 1.0  # for the statuses of ended calls to reach their clients


class GrpcServer:
    """Health answers for "" and the service, serving once any LLM is, and for each LLM by its name.

    Construct it in the event loop. It holds its port from construction on, so that a taken one is known before anything
    is loaded. Raises ListenError.

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
        port: int = 50051,
        max_message_bytes: int = 4 << 20,
        max_requests: int = 256,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._service = service
        self._health = Health()
        self._server = grpc.aio.server(
            interceptors=[AskForKey(access), RefuseMalformed()],
            options=_options(max_message_bytes),
            maximum_concurrent_rpcs=_RPCS_PER_REQUEST * max_requests + _SPARE_RPCS,
        )
        inference = Inference(service, stall_seconds)
        add_InferenceServicer_to_server(inference, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        oip.add_to_server(OpenInference(service, stall_seconds), self._server)
        names = (SERVICE, oip.SERVICE, _HEALTH, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=oip.ReflectedPool())  # type: ignore[arg-type]  # it asks for lookups only
        for name in ("", *_MODEL_SERVICES, *(progress.llm for progress in service.models())):
            self._health.set(name, False)
        self.address = _listen(self._server, host, port, tls)

    async def start(self) -> None:
        """Answer calls."""
        await self._server.start()

    def update(self, progress: Progress) -> None:
        """Take the news of one LLM."""
        if progress.state is LLMState.UNLOADED:
            self._health.forget(progress.llm)
        else:
            self._health.set(progress.llm, progress.state is LLMState.READY)
        is_any_ready = any(llm.state is LLMState.READY for llm in self._service.models())
        for name in ("", *_MODEL_SERVICES):
            self._health.set(name, is_any_ready)

    def stop_accepting(self) -> None:
        """Tell health's watchers that the server is going away; calls are answered until `stop`."""
        self._health.close()

    async def stop(self) -> None:
        """Close the port, end what still runs, and return."""
        self._health.close()
        await self._server.stop(_LAST_WORDS_SECONDS)


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a port in use is an error, not a port shared with another server
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 30_000),  # finds clients that vanished without closing
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),  # clients may ping as often, and are never
        ("grpc.http2.max_ping_strikes", 0),  # thrown out for pinging more
        # Calls that arrived and are not looked at yet: by default some of more than 1,000 end with CANCELLED, and get
        # neither the reason nor the hint that a full queue gives.
        ("grpc.server.max_pending_requests", _PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _PENDING_CALLS),
    ]


def _listen(server: grpc.aio.Server, host: str, port: int, tls: TLS | None) -> str:
    shown = shown_host(host)
    bind(host, port, option="port").close()  # gRPC's own error lacks the reason
    address = f"{shown}:{port}"
    try:
        found = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, tls.grpc)
        return f"{shown}:{found}"
    except RuntimeError as error:
        raise ListenError(host, port, str(error), option="port") from error
