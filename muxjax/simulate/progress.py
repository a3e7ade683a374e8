"""How far a simulation is."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import track


def tracked[Item](items: Iterable[Item], words: str, total: int) -> Iterable[Item]:
    """The items, with a bar on a terminal's standard error while they come; nothing where that is a file or a pipe."""
    console = Console(file=sys.stderr)
    return track(items, words, total=total, console=console, transient=True, disable=not console.is_terminal)
