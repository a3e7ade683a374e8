"""Encryption: one certificate for gRPC and HTTP, and clients' certificates where they are asked for."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


class TLSError(Exception):
    """The files cannot be used; the message says which, and why.

    Attributes:
        field: "certificate", "key" or "client_ca".
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


@dataclass(frozen=True, slots=True)
class TLS:
    """What the server shows, and what it asks of clients.

    Attributes:
        http: for the HTTP server.
        grpc: for the gRPC server.
    """

    http: ssl.SSLContext
    grpc: grpc.ServerCredentials

    @classmethod
    def load(cls, certificate: Path, key: Path, client_ca: Path | None = None) -> "TLS":
        """From PEM files: the certificate with what leads to its root, its key, and the root of clients' certificates.

        With `client_ca` only clients whose certificate it signed get in (mutual TLS). Raises TLSError.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        pem = {"certificate": _read("certificate", certificate), "key": _read("key", key)}
        try:
            context.load_cert_chain(certificate, key, password=_refuse_passphrase)
        except (ssl.SSLError, ValueError) as error:
            raise TLSError("key", f"{key} and the certificate {certificate} do not go together: {error}") from error
        root = None
        if client_ca is not None:
            root = _read("client_ca", client_ca)
            try:
                context.load_verify_locations(client_ca)
            except ssl.SSLError as error:
                raise TLSError("client_ca", f"{client_ca} holds no certificate: {error}") from error
            context.verify_mode = ssl.CERT_REQUIRED
        credentials = grpc.ssl_server_credentials(
            [(pem["key"], pem["certificate"])], root_certificates=root, require_client_auth=root is not None
        )
        return cls(context, credentials)


def _read(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TLSError(field, f"{path} cannot be read: {error.strerror}") from error


def _refuse_passphrase() -> str:
    raise ValueError("the key has a passphrase: take it off, and keep the file to yourself")
