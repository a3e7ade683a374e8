"""`python -m muxjax.bench [PART...] [--quick] [--output FILE]`."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from muxjax.allocator import keep_freed_memory
from muxjax.bench.result import BenchError
from muxjax.bench.settings import Settings

_PIPE_WIDTH = 120
_DESCRIPTIONS = {
    "throughput": "tokens/s, TTFT and ITL beside transformers and llama.cpp",
    "overhead": "the engine against its bare programs, and its host work per step",
    "colocated": "three LLMs in one unit against the same in turn",
    "steps": "jobs packed into one program, and several decode steps at once, against neither",
    "schedule": "host time of one scheduler step",
    "checkpoint": "GB/s and memory of reading safetensors",
    "quantization": "what weights of eight bits lose in quality, and what a decode step takes with them",
    "startup": "seconds until the demo models are served, with an empty and with a full compile cache",
    "frontends": "tokens/s and latency of every protocol, with an executor that costs nothing",
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write; returns the process's exit code: 0 even where a budget is not met."""
    options = _parse(arguments)
    # These bring JAX, which must find the allocator as it is to stay.
    from rich.console import Console

    from muxjax.bench.run import run
    from muxjax.bench.tables import print_sheets, sheets
    from muxjax.compile_cache import keep_compiled_programs
    from muxjax.config import Config

    if (cache := Config().compile.cache) is not None:
        keep_compiled_programs(cache)
    results: dict[str, Any] = {}

    def keep(so_far: dict[str, Any]) -> None:
        results.update(so_far)
        if options.output is not None:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(results, indent=1) + "\n")

    try:
        run(tuple(options.parts), _settings(options), lambda words: print(words, file=sys.stderr, flush=True), keep)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    if sys.stdout.isatty() or options.output is not None:
        print_sheets(sheets(results), Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH))
    else:
        print(json.dumps(results, indent=1))
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    settings = Settings(serve_config=options.serve, torch_python=options.torch_python)
    settings = settings.quick() if options.quick else settings
    if options.model is not None:
        settings = replace(settings, model=json.loads(options.model.read_text()))
    given = {"dtypes": options.dtypes, "concurrency": options.concurrency, "rounds": options.rounds}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m muxjax.bench",
        description="Measure muxjax's speed on this machine, on a random Llama of 134M parameters.",
        epilog="parts: " + "; ".join(f"{name}: {words}" for name, words in _DESCRIPTIONS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(_DESCRIPTIONS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures say little")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON, after every part")
    parser.add_argument("--rounds", type=_positive, help="how often everything is measured (default: 3, quick: 1)")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], help="of the weights (default: both)")
    parser.add_argument("--concurrency", nargs="+", type=_positive, help="requests at once (default: 1 8 32)")
    parser.add_argument("--model", type=Path, metavar="CONFIG.json", help="another shape, in Hugging Face's terms")
    parser.add_argument("--serve", type=Path, metavar="CONFIG", help="what startup serves (default: the demo models)")
    parser.add_argument(
        "--torch-python",
        type=Path,
        metavar="PYTHON",
        default=_oracle_python(),
        help="an interpreter with torch, transformers, llama-cpp-python and gguf (default: that of .venv-oracle)",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(_DESCRIPTIONS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose from {', '.join(_DESCRIPTIONS)}")
    options.parts = options.parts or list(_DESCRIPTIONS)
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


def _oracle_python() -> Path | None:
    python = Path(__file__).parents[2] / ".venv-oracle" / "bin" / "python"
    return python if python.exists() else None


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
