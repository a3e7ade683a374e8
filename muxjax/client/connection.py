"""A channel to a server, encrypted and with an API key where the options say so."""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
KEY_VARIABLE = "MUXJAX_API_KEY"

_OPTIONS = (("grpc.max_reconnect_backoff_ms", 1000),)  # a server that comes back is found soon


def add_connection_options(parser: argparse.ArgumentParser, address: str = DEFAULT_ADDRESS) -> None:
    """How to reach a server, which is expected at `address`, secured or not."""
    parser.add_argument("--address", default=address, help=f"host:port of the server (default: {address})")
    parser.add_argument("--api-key", metavar="KEY", help=f"better given as ${KEY_VARIABLE}, which others cannot see")
    parser.add_argument(
        "--tls-ca",
        metavar="FILE",
        help="encrypt; FILE (PEM) holds the server's certificate or its root, `system` takes this machine's roots",
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="this client's certificate (mutual TLS)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")


@contextlib.contextmanager
def connect(options: argparse.Namespace) -> Iterator[grpc.Channel]:
    """A channel to `options.address`. Raises OSError for files that cannot be read."""
    with _open(options) as channel:
        key = options.api_key or os.environ.get(KEY_VARIABLE)
        yield grpc.intercept_channel(channel, _WithKey(key)) if key else channel


def _open(options: argparse.Namespace) -> grpc.Channel:
    if options.tls_ca is None:
        return grpc.insecure_channel(options.address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=None if options.tls_ca == "system" else Path(options.tls_ca).read_bytes(),
        private_key=options.tls_key and options.tls_key.read_bytes(),
        certificate_chain=options.tls_certificate and options.tls_certificate.read_bytes(),
    )
    return grpc.secure_channel(options.address, credentials, options=_OPTIONS)


class _Details(grpc.ClientCallDetails):
    """A call's details with more metadata."""

    def __init__(self, details: grpc.ClientCallDetails, more: tuple[str, str]) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = (*(details.metadata or ()), more)
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


class _WithKey(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    """Sends the key with every call."""

    def __init__(self, key: str) -> None:
        self._entry = ("authorization", f"Bearer {key}")

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """One answer."""
        return continuation(_Details(client_call_details, self._entry), request)

    def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """A stream of answers."""
        return continuation(_Details(client_call_details, self._entry), request)
