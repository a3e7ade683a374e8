"""Taking an address, and saying why it cannot be had."""

import socket


class ListenError(Exception):
    """The address cannot be listened on; `option` is the server's setting for the port."""

    def __init__(self, host: str, port: int, reason: str, *, option: str) -> None:
        super().__init__(
            f"cannot listen on {shown_host(host)}:{port}: {reason}; choose another with --{option.replace('_', '-')} "
            f"and --host (server.{option} and server.host in the configuration)"
        )


def bind(host: str, port: int, *, option: str) -> socket.socket:
    """A socket that holds the address. Raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ListenError(host, port, error.strerror or str(error), option=option) from error
    return bound


def shown_host(host: str) -> str:
    """The host as an address has it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
