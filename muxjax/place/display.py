"""A placement as a table for people."""

from rich.console import Console
from rich.table import Table

from muxjax.placement.placement import PlacedUnit, Placement


def print_placement(placement: Placement, console: Console, costs: str) -> None:
    """Units with their LLMs, and what they bring together."""
    table = Table(box=None, pad_edge=False)
    for title in ("unit", "GPUs"):
        table.add_column(title, no_wrap=True)
    table.add_column("LLM", overflow="fold")
    table.add_column("model", overflow="fold")
    for title in ("rate/s", "served/s", "share", "batch"):
        table.add_column(title, justify="right", no_wrap=True)
    for number, unit in enumerate(placement.units):
        _add_unit(table, number, unit)
    console.print(table)
    console.print()
    asked = sum(llm.rate for unit in placement.units for llm in unit.llms)
    for line in (
        f"throughput  {placement.throughput:.4g} of {asked:.4g} requests/s; no placement can exceed "
        f"{placement.upper_bound:.4g} (gap {placement.gap:.2%})",
        f"search      {placement.search}, {placement.seconds:.2f} s; MuxServe's own objective: "
        f"{placement.authors_objective:.4g}",
        f"costs       {costs}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _add_unit(table: Table, number: int, unit: PlacedUnit) -> None:
    gpus = f"{unit.node}:{unit.devices[0]}" + (f"-{unit.devices[-1]}" if unit.gpus > 1 else "")
    if not unit.llms:
        table.add_row(str(number), gpus, "[dim]idle[/dim]")
    for place, llm in enumerate(unit.llms):
        table.add_row(
            str(number) if place == 0 else "",
            gpus if place == 0 else "",
            llm.name,
            llm.model,
            f"{llm.rate:.4g}",
            f"{llm.throughput:.4g}",
            f"{llm.decode_share}%",
            f"{llm.batch_size:,}",
        )
