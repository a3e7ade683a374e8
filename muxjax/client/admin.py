"""The commands that change a server while it serves."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from muxjax.client.connection import add_connection_options
from muxjax.client.errors import CommandError
from muxjax.serving.frontends.grpc import admin_pb2 as pb
from muxjax.serving.frontends.grpc.admin_pb2_grpc import AdminStub

DEFAULT_ADDRESS = "127.0.0.1:50052"

_SECONDS = 10.0  # for the calls that answer at once
_RANDOM = "random:"


def add_admin_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """load, unload, drain, resume, set-rate and set-quota, which go to the admin port."""

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text)
        add_connection_options(command, DEFAULT_ADDRESS)
        command.add_argument("model", metavar="MODEL", help="the model's name")
        return command

    load = add("load", "load a model more, or again one that failed (admin port)")
    load.add_argument("source", metavar="SOURCE", help="a checkpoint's folder, demo:NAME or random:CONFIG.json")
    load.add_argument("--dtype", help="float32, bfloat16 or float16")
    load.add_argument("--rate", type=float, metavar="X", help="popularity, requests/s")
    for name, text in (
        ("max-context", "most tokens of a prompt and its completion"),
        ("max-sequences", "most sequences that run at once"),
        ("max-waiting", "most sequences that wait"),
    ):
        load.add_argument(f"--{name}", type=int, metavar="N", help=text)
    unload = add("unload", "take a model out, and give its memory back (admin port)")
    unload.add_argument(
        "--seconds", type=float, default=30.0, metavar="S", help="that running requests have to finish (default: 30)"
    )
    add("drain", "take no more requests for a model (admin port)")
    add("resume", "take requests again (admin port)")
    add("set-rate", "change a model's popularity (admin port)").add_argument("rate", type=float, metavar="RATE")
    add("set-quota", "change how many head blocks a model may hold (admin port)").add_argument(
        "blocks", type=int, metavar="BLOCKS"
    )


def load(stub: AdminStub, options: argparse.Namespace) -> None:
    """Load, and print each step."""
    given = {
        name: value
        for name in ("dtype", "rate", "max_context", "max_sequences", "max_waiting")
        if (value := getattr(options, name)) is not None
    }
    request = pb.LoadRequest(model=options.model, source=_absolute(options.source), **given)
    for news in stub.Load(request):
        steps = f" {news.done}/{news.total}" if news.total and news.state == "compiling" else ""
        print(f"{options.model}: {news.state}{steps} ({news.seconds:.1f} s)", flush=True)
    if news.state != "ready":
        raise CommandError(f"{options.model}: {news.error or news.state}")


def unload(stub: AdminStub, options: argparse.Namespace) -> None:
    """Wait until it is gone."""
    stub.Unload(pb.UnloadRequest(model=options.model, seconds=options.seconds))
    print(f"{options.model}: unloaded")


def drain(stub: AdminStub, options: argparse.Namespace) -> None:
    """Refuse what is new."""
    stub.Drain(pb.ModelName(model=options.model), timeout=_SECONDS)
    print(f"{options.model}: draining")


def resume(stub: AdminStub, options: argparse.Namespace) -> None:
    """Take what is new."""
    stub.Resume(pb.ModelName(model=options.model), timeout=_SECONDS)
    print(f"{options.model}: ready")


def set_rate(stub: AdminStub, options: argparse.Namespace) -> None:
    """Change the popularity."""
    stub.SetRate(pb.SetRateRequest(model=options.model, rate=options.rate), timeout=_SECONDS)
    print(f"{options.model}: {options.rate:g} requests/s")


def set_quota(stub: AdminStub, options: argparse.Namespace) -> None:
    """Change the quota."""
    stub.SetQuota(pb.SetQuotaRequest(model=options.model, blocks=options.blocks), timeout=_SECONDS)
    print(f"{options.model}: {options.blocks:,} head blocks")


COMMANDS: Mapping[str, Callable[[AdminStub, argparse.Namespace], None]] = {
    "load": load,
    "unload": unload,
    "drain": drain,
    "resume": resume,
    "set-rate": set_rate,
    "set-quota": set_quota,
}


def _absolute(source: str) -> str:
    """Paths mean the same to the server, whose folder is another."""
    kind = _RANDOM if source.startswith(_RANDOM) else ""
    path = Path(source.removeprefix(kind)).expanduser()
    return f"{kind}{path.absolute()}" if path.exists() else source
