"""`python -m muxjax.convert SRC DST`: a model's Hugging Face folder as an Orbax checkpoint, or back, bit for bit."""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from muxjax.allocator import keep_freed_memory
from muxjax.config.fields import parse_bytes

_WRONG = 2


def main(arguments: list[str] | None = None) -> int:
    """Convert; returns the process's exit code."""
    options = _parse(arguments)
    keep_freed_memory()
    from muxjax.models.convert import convert  # brings JAX, which must find the allocator as it is to stay
    from muxjax.models.errors import ModelError

    console = Console(stderr=True)
    try:
        with _finished_folder(options.destination, options.overwrite) as folder:
            kind = convert(
                options.source,
                folder,
                max_shard_bytes=options.max_shard_size,
                tell=lambda words: console.print(words, highlight=False, markup=False, soft_wrap=True),
            )
    except (ModelError, OSError) as error:
        print(f"muxjax.convert: {error}", file=sys.stderr)
        return _WRONG
    except KeyboardInterrupt:
        print("muxjax.convert: stopped; nothing was written", file=sys.stderr)
        return 130
    print(f"{options.destination} holds the model {kind}")
    return 0


@contextmanager
def _finished_folder(destination: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that takes the destination's place when all is done; if something fails, nothing has changed."""
    if destination.is_symlink() or destination.exists():
        if not overwrite:
            raise FileExistsError(f"{destination} is there already: name another place, or say --overwrite")
        if not (destination / "config.json").is_file():
            raise FileExistsError(f"{destination} is no model's folder (it has no config.json): remove it yourself")
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = destination.parent / f".{destination.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        if destination.exists():
            shutil.rmtree(destination)
        unfinished.rename(destination)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.convert",
        description="Write a model's Hugging Face folder (safetensors) as an Orbax checkpoint, or an Orbax checkpoint "
        "as a Hugging Face folder: whichever the source is not. Types and values stay as they are, and the "
        "configuration and the tokenizer's files come along.",
        epilog="Exit codes: 0 converted, 2 the source or the destination is wrong, and nothing was written.",
    )
    parser.add_argument("source", metavar="SRC", help="a model's folder, or demo:NAME")
    parser.add_argument("destination", metavar="DST", type=Path, help="a folder that is not there yet")
    parser.add_argument("--overwrite", action="store_true", help="replace the model in DST")
    parser.add_argument(
        "--max-shard-size",
        type=_size,
        metavar="SIZE",
        default=5_000_000_000,
        help="largest safetensors file, such as 2GB (default: 5GB); larger models are written as several",
    )
    return parser.parse_args(arguments)


def _size(text: str) -> int:
    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(size, int) or size < 1:
        raise argparse.ArgumentTypeError(f"must be at least one byte, not {text}")
    return size


if __name__ == "__main__":
    sys.exit(main())
