"""Who gets in and how it is encrypted, from the files that the configuration names."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from muxjax.config import LoadedConfig
from muxjax.config.api_keys import is_readable_by_others, load_api_keys
from muxjax.config.schema import Config, ServerConfig
from muxjax.serving.frontends.access import AccessControl, Caller, digest
from muxjax.serving.frontends.tls import TLS, TLSError

_MIN_KEY = 16


@dataclass(frozen=True, slots=True)
class Security:
    """What every frontend gets.

    Attributes:
        access: the callers that are let in.
        admin: who may change the server, on its admin port.
        tls: None where nothing is encrypted.
        warnings: what the one who runs the server should know.
    """

    access: AccessControl
    admin: AccessControl
    tls: TLS | None
    warnings: tuple[str, ...]


def load_security(loaded: LoadedConfig, config: Config) -> Security:
    """Read keys and certificates. Raises ConfigurationError."""
    server = config.server
    access = AccessControl() if server.api_keys is None else load_api_keys(server.api_keys, list(config.llms))
    tls = None
    if server.tls is not None:
        try:
            tls = TLS.load(server.tls.certificate, server.tls.key, server.tls.client_ca)
        except TLSError as error:
            raise loaded.error([f"server.tls.{error}"]) from error
    return Security(access, _admin(loaded, server), tls, tuple(_warnings(server)))


def _admin(loaded: LoadedConfig, server: ServerConfig) -> AccessControl:
    """Whoever has the key, or everyone on this machine. Raises ConfigurationError."""
    if server.admin_key is None:
        return AccessControl()
    try:
        key = server.admin_key.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise loaded.error([f"server.admin_key: {server.admin_key} cannot be read"]) from error
    if len(key) < _MIN_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise loaded.error(
            [f"server.admin_key: {server.admin_key} must hold one key of at least {_MIN_KEY} ASCII characters"]
        )
    return AccessControl([(digest(key), Caller("admin"))])


def _warnings(server: ServerConfig) -> Iterator[str]:
    for keys in (server.api_keys, server.admin_key):
        if keys is not None and is_readable_by_others(keys):
            yield f"{keys} can be read by other users: chmod 600 {keys}"
    if _is_loopback(server.host):
        return
    if server.api_keys is None and (server.tls is None or server.tls.client_ca is None):
        yield (
            f"whoever reaches {server.host} can use this server: name a file of keys in server.api_keys, "
            "or listen on 127.0.0.1 (docs/security.md)"
        )
    if server.tls is None:
        yield f"what goes over {server.host} is not encrypted: set server.tls, or put a proxy with TLS before it"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
