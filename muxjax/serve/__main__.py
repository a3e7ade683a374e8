"""`python -m muxjax.serve [CONFIG] [--check] [--host HOST] [--port PORT] [--http-port PORT]`."""

import argparse
import sys
from pathlib import Path

from muxjax.allocator import keep_freed_memory
from muxjax.config import Config, ConfigurationError, load_config
from muxjax.config.load import is_placement
from muxjax.device_share import take_memory_share
from muxjax.logs import log_to_stderr

_NO_DEVICE = 1
_WRONG_CONFIGURATION = 2
_PIPE_WIDTH = 160


def main(arguments: list[str] | None = None) -> int:
    """Serve, or check; returns the process's exit code."""
    options = _parse(arguments)
    try:
        return _run(options)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return _WRONG_CONFIGURATION


def _run(options: argparse.Namespace) -> int:
    placement = None
    if is_placement(options.config):
        from muxjax.config.placed import load_placement

        loaded, placement = load_placement(options.config)
    else:
        loaded = load_config(options.config)
    config = _override(loaded.config, options)
    take_memory_share(config.device.memory_share)
    # These bring JAX, which a configuration that is wrong need not wait for.
    from muxjax.config.placed import device_units
    from muxjax.config.unit import unit_spec
    from muxjax.device import DeviceError, check_device
    from muxjax.serve.security import load_security
    from muxjax.serving.memory import fit_pool
    from muxjax.serving.plan import PlanError, plan_unit

    security = load_security(loaded, config)
    try:
        check_device()
    except DeviceError as error:
        print(error, file=sys.stderr)
        return _NO_DEVICE
    try:
        units = device_units(unit_spec(config), placement)
        plans = [(plan_unit(fit_pool(unit.spec, unit.devices)), unit.devices) for unit in units]
    except PlanError as error:
        raise loaded.error(str(error).splitlines()) from error
    if options.check:
        from rich.console import Console

        from muxjax.serve.check import print_plans

        print_plans(plans, config, Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH))
        return 0
    from muxjax.serve.application import serve

    with log_to_stderr(config.logging.format, config.logging.level):
        return serve(config, plans, security, options.trace)


def _override(config: Config, options: argparse.Namespace) -> Config:
    given = {name: value for name in ("host", "port", "http_port") if (value := getattr(options, name)) is not None}
    return config.model_copy(update={"server": config.server.model_copy(update=given)})


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.serve",
        description="Serve several LLMs from shared devices and one pool of memory.",
        epilog="The first Ctrl-C or SIGTERM lets running requests finish, the second one stops at once. "
        "Exit codes: 0 stopped when asked to, 1 nothing could be served, 2 wrong configuration or address.",
    )
    parser.add_argument(
        "config",
        nargs="?",
        type=Path,
        metavar="CONFIG",
        help="YAML file, or a placement of muxjax.place (default: the demo models)",
    )
    parser.add_argument("--check", action="store_true", help="show the plan and the memory table, and load nothing")
    parser.add_argument("--host", help="address to listen on, instead of the configuration's")
    parser.add_argument("--port", type=_port, help="port of the gRPC service, instead of the configuration's")
    parser.add_argument("--http-port", type=_port, help="port of the HTTP, instead of the configuration's")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write a timeline of jobs and requests, which ui.perfetto.dev opens"
    )
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is no port: it must be from 0 to 65535")
    return port


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
