"""`python -m muxjax.client models | generate | chat | status`, and the commands of the admin port."""

import os
import sys

import grpc

from muxjax.client import admin, commands
from muxjax.client.connection import connect
from muxjax.client.errors import EXIT_CODES, CommandError, describe
from muxjax.client.options import parse_arguments
from muxjax.serving.frontends.grpc.admin_pb2_grpc import AdminStub
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub

_INTERRUPTED = 130  # as shells report SIGINT


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    options = parse_arguments(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        with connect(options) as channel:
            if options.command in admin.COMMANDS:
                admin.COMMANDS[options.command](AdminStub(channel), options)  # type: ignore[no-untyped-call]
            else:
                stub = InferenceStub(channel)  # type: ignore[no-untyped-call]
                commands.COMMANDS[options.command](stub, options)
    except grpc.RpcError as error:
        print(f"error: {describe(error, options.address)}", file=sys.stderr)
        return EXIT_CODES.get(error.code(), 1)
    except CommandError as error:
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


if __name__ == "__main__":
    sys.exit(main())
