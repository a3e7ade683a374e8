"""`python -m muxjax.train NAME`: make a demo model from what every Python installation carries."""

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from muxjax.allocator import keep_freed_memory

if TYPE_CHECKING:
    from muxjax.training.loop import Report

NAMES = ("arithmetic", "code", "prose")
SAVE_EVERY = 120.0  # seconds


def main(arguments: list[str] | None = None) -> int:
    """Train one model, resuming where an earlier run of the same directory stopped."""
    options = _parse(arguments)
    keep_freed_memory()
    from muxjax.training.corpus import CorpusError  # JAX must not be imported before the allocator is told

    try:
        _train(options)
    except CorpusError as error:
        print(f"muxjax.train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("muxjax.train: stopped; the same command goes on from the last save", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m muxjax.train", description=__doc__)
    parser.add_argument("name", choices=NAMES, help="which model")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where it is written (default: trained/NAME)")
    parser.add_argument("--minutes", type=_positive, help="stop after so long, the learning rate following the clock")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the batches (default: 0)")
    options = parser.parse_args(arguments)
    options.output = options.output or Path("trained") / options.name
    return options


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of minutes, not {text}")
    return value


def _train(options: argparse.Namespace) -> None:
    from muxjax.training.export import export
    from muxjax.training.loop import Trainer
    from muxjax.training.recipes import RECIPES

    recipe = RECIPES[options.name]
    task = recipe.make_task()
    trainer = Trainer(recipe, task, seed=options.seed)
    state = options.output.absolute() / "training"
    if state.is_dir():
        trainer.resume(state)
    saved = monotonic()
    with ProgressDisplay(options.name) as display:
        for report in trainer.run(options.minutes):
            display.show(report)
            if monotonic() - saved > SAVE_EVERY:
                trainer.save(state)
                saved = monotonic()
    export(options.output, recipe, task.tokenizer, trainer.decoder)
    shutil.rmtree(state, ignore_errors=True)
    display.close(options.output)


class ProgressDisplay:
    """A bar on a terminal, JSON lines elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                console=Console(),
            )
            self._task = self._bar.add_task(f"train {name}", total=1.0, figures="")

    def __enter__(self) -> "ProgressDisplay":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, report: "Report") -> None:
        """Where training stands now."""
        if self._bar is None:
            print(json.dumps({"model": self._name, **asdict(report)}), flush=True)
            return
        figures = (
            f"step {report.step}  loss {report.training_loss:.3f}  held out: {report.held_out_loss:.3f} nats a token, "
            f"{report.held_out_right:.1%} right"
        )
        self._bar.update(self._task, completed=report.progress, figures=figures)

    def close(self, directory: Path) -> None:
        """Where the model is, and how to use it."""
        if self._bar is None:
            print(json.dumps({"model": self._name, "saved": str(directory)}), flush=True)
        else:
            print(f"saved in {directory}; load it with load_model({str(directory)!r}), or name it in a configuration")


if __name__ == "__main__":
    sys.exit(main())
