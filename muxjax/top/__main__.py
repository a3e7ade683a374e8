"""`python -m muxjax.top [--address HOST:PORT] [--interval SECONDS] [--once] [--json]`."""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live

from muxjax.client.connection import add_connection_options, connect
from muxjax.client.errors import exit_code
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from muxjax.top.glyphs import fitting
from muxjax.top.screen import screen
from muxjax.top.source import Moment, NotAMuxjaxServerError, watch

_PIPE_WIDTH = 160


def main(arguments: list[str] | None = None) -> int:
    """Show until interrupted; returns the process's exit code."""
    options = _parse(arguments)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return exit_code(lambda: _watch(options), options.address)
    except NotAMuxjaxServerError as error:
        print(f"error: a server answers at {options.address}, but {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # the way to leave
        return 0


def _watch(options: argparse.Namespace) -> None:
    with connect(options) as channel:
        stub = InferenceStub(channel)  # type: ignore[no-untyped-call]
        _show(itertools.islice(watch(stub, options.interval), 1 if options.once else None), options)


def _show(moments: Iterator[Moment], options: argparse.Namespace) -> None:
    if options.json:
        for moment in moments:
            if moment.is_live:
                print(moment.overview.as_json().decode(), flush=True)
    elif options.once or not sys.stdout.isatty():
        console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH)
        for moment in moments:
            console.print(screen(moment, options.address, console.width, None, fitting(console.encoding)))
            sys.stdout.flush()
    else:
        console = Console()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for moment in moments:
                size = console.size
                live.update(
                    screen(moment, options.address, size.width, size.height, fitting(console.encoding)), refresh=True
                )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.top",
        description="Watch a running muxjax server: who holds which share of memory and compute, and how fast it "
        "answers. Ctrl-C leaves.",
        epilog="Exit codes: 0 left, 1 failed, 2 no such key or file, 3 no server. NO_COLOR=1 shows it without colours.",
    )
    add_connection_options(parser)
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="time between looks (default: 1)"
    )
    parser.add_argument("--once", action="store_true", help="look once, and end")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each look")
    return parser.parse_args(arguments)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.1 to 3600 seconds")
    return value


if __name__ == "__main__":
    sys.exit(main())
