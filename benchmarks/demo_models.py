"""How good the demo models are, on what they never saw: JSON, one entry a model.

Usage: python benchmarks/demo_models.py [NAME...] [--limit N] [--directory DIR]
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from muxjax.allocator import keep_freed_memory

NAMES = ("arithmetic", "code", "prose")


def main() -> None:
    """Measure the models named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--limit", type=int, help="measure on so many texts or sums only")
    parser.add_argument("--directory", type=Path, help="measure the models in DIRECTORY/NAME, not the shipped ones")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no demo model {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    keep_freed_memory()
    figures = {name: measure(name, options.directory, options.limit) for name in options.names or NAMES}
    json.dump(figures, sys.stdout, indent=2)
    print()


def measure(name: str, directory: Path | None, limit: int | None) -> dict[str, Any]:
    """One model's figures, its size, and how long measuring took."""
    import jax.numpy as jnp  # not before the allocator is told

    from muxjax.models.load import load_model
    from muxjax.models.source import DEMO_DIRECTORY
    from muxjax.training.evaluation import demo_continuations, evaluate

    started = monotonic()
    path = (directory or DEMO_DIRECTORY) / name
    model = load_model(path, dtype=jnp.float32)
    quality = evaluate(model, demo_continuations(name, model, limit=limit))
    return {
        **asdict(quality),
        "parameters": model.config.num_parameters,
        "bytes_on_disk": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "seconds": round(monotonic() - started, 1),
    }


if __name__ == "__main__":
    main()
