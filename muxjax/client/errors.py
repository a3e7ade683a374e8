"""What a call's failure means to a person, and to a shell."""

import os
import sys
from collections.abc import Callable

import grpc

from muxjax.client.connection import KEY_VARIABLE

EXIT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 2,
    grpc.StatusCode.NOT_FOUND: 2,
    grpc.StatusCode.FAILED_PRECONDITION: 2,
    grpc.StatusCode.UNAUTHENTICATED: 2,
    grpc.StatusCode.PERMISSION_DENIED: 2,
    grpc.StatusCode.UNAVAILABLE: 3,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 4,
    grpc.StatusCode.DEADLINE_EXCEEDED: 4,
}


class CommandError(Exception):
    """The command line asks for what cannot be."""


def exit_code(run: Callable[[], None], address: str) -> int:
    """Run a command that calls the server at `address`; say on standard error how it failed, if it did."""
    try:
        run()
    except grpc.RpcError as error:
        print(f"error: {describe(error, address)}", file=sys.stderr)
        return EXIT_CODES.get(error.code(), 1)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe left, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # of a certificate's file
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def describe(error: grpc.RpcError, address: str) -> str:
    """What went wrong and what to do, for a person."""
    details = error.details() or error.code().name
    if error.code() == grpc.StatusCode.UNAVAILABLE and details.startswith("failed to connect"):
        return f"no server answers at {address}: start one with `python -m muxjax.serve`, or give its --address"
    if error.code() == grpc.StatusCode.UNAUTHENTICATED:
        return f"{details}; give it as ${KEY_VARIABLE} or --api-key"
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"the time ran out ({details})"
    for entry in error.trailing_metadata() or ():
        if entry.key == "retry-after" and isinstance(entry.value, str):
            return f"{details}; try again in {entry.value} s"
    return details
