"""`python -m muxjax.client models | generate | chat | status`, and the commands of the admin port."""

import argparse
import sys

from muxjax.client import admin, commands
from muxjax.client.connection import connect
from muxjax.client.errors import exit_code
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
        return exit_code(lambda: _run(options), options.address)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> None:
    with connect(options) as channel:
        if options.command in admin.COMMANDS:
            admin.COMMANDS[options.command](AdminStub(channel), options)  # type: ignore[no-untyped-call]
        else:
            commands.COMMANDS[options.command](InferenceStub(channel), options)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.exit(main())
