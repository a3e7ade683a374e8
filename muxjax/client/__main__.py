"""`python -m muxjax.client models | generate | chat | status`."""

import os
import sys

import grpc

from muxjax.client import commands
from muxjax.client.connection import KEY_VARIABLE, connect
from muxjax.client.options import parse_arguments
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub

EXIT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 2,
    grpc.StatusCode.NOT_FOUND: 2,
    grpc.StatusCode.UNAUTHENTICATED: 2,
    grpc.StatusCode.PERMISSION_DENIED: 2,
    grpc.StatusCode.UNAVAILABLE: 3,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 4,
    grpc.StatusCode.DEADLINE_EXCEEDED: 4,
}
_INTERRUPTED = 130  # as shells report SIGINT


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    options = parse_arguments(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        with connect(options) as channel:
            stub = InferenceStub(channel)  # type: ignore[no-untyped-call]
            commands.COMMANDS[options.command](stub, options)
    except grpc.RpcError as error:
        print(f"error: {describe(error, options.address)}", file=sys.stderr)
        return EXIT_CODES.get(error.code(), 1)
    except commands.CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED
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


if __name__ == "__main__":
    sys.exit(main())
