"""A run's figures as tables, for a terminal or for a page."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of words.

    Attributes:
        title: what it shows.
        labels: how many of the first columns say what the others are about.
        columns: their heads.
        rows: a word for each column.
    """

    title: str
    labels: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets(results: Mapping[str, Any]) -> Iterator[Sheet]:
    """The tables of all parts that were measured, and of the budgets."""
    for part, figures in results["parts"].items():
        yield from _SHEETS[part](figures)
    if results["budgets"]:
        yield budget_sheet(results["budgets"])


def print_sheets(tables: Iterable[Sheet], console: Console) -> None:
    """For people at a terminal."""
    for sheet in tables:
        table = Table(box=None, pad_edge=False)
        for index, column in enumerate(sheet.columns):
            table.add_column(column, justify="right" if index >= sheet.labels else "left")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(f"[bold]{sheet.title}[/]", highlight=False)
        console.print(table)
        console.print()


def markdown(tables: Iterable[Sheet]) -> str:
    """For docs/performance.md."""
    blocks = []
    for sheet in tables:
        lines = [sheet.columns, ["---"] * sheet.labels + ["---:"] * (len(sheet.columns) - sheet.labels), *sheet.rows]
        blocks.append(f"### {sheet.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(blocks)


def _throughput(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    rows = []
    for case in figures["cases"]:
        for name, engine in case["engines"].items():
            ratio = case["ratios"].get(name)
            rows.append(
                (
                    case["dtype"],
                    str(case["concurrency"]),
                    name,
                    f"{engine['tokens_per_second']:.0f}",
                    "" if ratio is None else f"{ratio:.2f}x",
                    *(f"{engine[what][rank]:.0f}" for what in ("ttft_ms", "itl_ms") for rank in ("p50", "p99")),
                )
            )
    columns = ("dtype", "requests", "engine", "tokens/s", "muxjax is", "TTFT ms", "p99", "ITL ms", "p99")
    yield Sheet("Throughput", 3, columns, tuple(rows))
    same = tuple(
        (dtype, name, str(tokens))
        for dtype, agreement in figures["agreement"].items()
        for name, tokens in agreement.items()
    )
    if same:
        yield Sheet("Greedy tokens until the first that differs from muxjax's", 2, ("dtype", "engine", "tokens"), same)
    if missing := tuple(figures["not_measured"].items()):
        yield Sheet("Not measured", 2, ("engine", "reason"), missing)


def _overhead(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    rows = tuple(
        (
            case["dtype"],
            str(case["batch_size"]),
            f"{case['engine_tokens_per_second']:.0f}",
            f"{case['bare_tokens_per_second']:.0f}",
            f"{case['ratio']:.1%}",
            f"{case['host_ms_per_step']:.2f}",
            f"{case['host_share']:.1%}",
        )
        for case in figures["cases"]
    )
    columns = ("dtype", "batch", "engine, tokens/s", "bare programs", "ratio", "host, ms a step", "share")
    yield Sheet("Decoding by the engine, and by its programs alone", 2, columns, rows)


def _colocated(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    row = (
        str(figures["llms"]),
        figures["dtype"],
        str(figures["requests_each"]),
        f"{figures['colocated_tokens_per_second']:.0f}",
        f"{figures['in_turn_tokens_per_second']:.0f}",
        f"{figures['ratio']:.1%}",
    )
    columns = ("LLMs", "dtype", "requests each", "together, tokens/s", "one after another", "ratio")
    yield Sheet("Colocated LLMs", 3, columns, (row,))


def _steps(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    rows = tuple(
        (
            case["way"],
            f"{case['tokens_per_second']:.0f}",
            f"{case['plain_tokens_per_second']:.0f}",
            f"{case['ratio']:.1%}",
        )
        for case in figures["cases"]
    )
    title = f"Ways to run steps, {figures['llms']} LLMs in {figures['dtype']}, {figures['requests_each']} requests each"
    yield Sheet(title, 1, ("way", "tokens/s", "job by job, step by step", "ratio"), rows)


def _schedule(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    rows = tuple(
        (
            case["policy"],
            "one" if case["lockstep"] else "many",
            *(f"{case[what][rank]:.2f}" for what in ("schedule_ms", "cycle_ms") for rank in ("p50", "p99")),
        )
        for case in figures["cases"]
    )
    title = f"Scheduling {figures['llms']} LLMs with {figures['sequences']} sequences"
    yield Sheet(title, 2, ("policy", "lengths", "schedule() ms", "p99", "whole cycle ms", "p99"), rows)


def _startup(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    rows = tuple((f"{state} compile cache", f"{seconds:.1f}") for state, seconds in figures["seconds"].items())
    yield Sheet(f"Seconds until {figures['served']} can be asked", 1, ("start with", "s"), rows)


def _frontends(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    rows = tuple(
        (
            case["protocol"],
            f"{case['tokens_per_second']:.0f}",
            f"{case['full'][0]['tokens_per_message']:.1f}",
            f"{case['half'][0]['latency_ms']['p50']:.2f}",
            f"{case['p99_ms']:.2f}",
        )
        for case in figures["cases"]
    )
    columns = ("protocol", "tokens/s", "in a message", "latency ms at half the rate", "p99")
    yield Sheet(f"Streaming to {figures['streams']} clients from one core", 1, columns, rows)


def _checkpoint(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    rows = tuple(
        (
            case["layout"],
            case["stored"],
            case["dtype"],
            f"{case['file_gb']:.2f}",
            f"{case['seconds']:.2f}",
            f"{case['gb_per_second']:.2f}",
            f"{case['peak_memory']:.2f}x",
        )
        for case in figures["cases"]
    )
    columns = ("checkpoint", "stored", "read as", "GB", "s", "GB/s", "peak memory / weights")
    yield Sheet("Reading checkpoints", 3, columns, rows)
    conversions = tuple(
        (case["source"], case["to"], f"{case['seconds']:.2f}", f"{case['peak_memory']:.2f}x")
        for case in figures["conversions"]
    )
    yield Sheet("Converting them", 2, ("from", "to", "s", "peak memory / weights"), conversions)


def _quantization(figures: Mapping[str, Any]) -> Iterator[Sheet]:
    losses = tuple(
        (
            model["model"],
            f"{model['bits_per_byte']['float32']:.4f}",
            f"{model['bits_per_byte']['int8']:.4f}",
            f"{model['perplexity_ratio']:.4f}",
            f"{model['max_logit_error']:.3f}",
            f"{model['mean_logit_error']:.4f}",
            f"{model['memory_ratio']:.2f}x",
        )
        for model in figures["models"]
    )
    columns = ("model", "bits/byte", "int8", "perplexity, int8 / float32", "largest logit error", "mean", "memory")
    yield Sheet("What weights of eight bits lose", 1, columns, losses)
    rows = tuple(
        (
            str(case["batch"]),
            *(f"{case['ms_per_step'][kind]:.1f}" for kind in ("float32", "int8")),
            f"{case['ratio']:.2f}x",
        )
        for case in figures["decode"]
    )
    yield Sheet("A decode step with them", 1, ("batch", "float32, ms", "int8, ms", "speed, int8 / float32"), rows)


def budget_sheet(budgets: list[Mapping[str, Any]]) -> Sheet:
    """What was promised, and whether it was kept."""
    words = {True: "met", False: "NOT MET", None: "not measured"}
    rows = tuple(
        (
            budget["name"],
            f"{'at least' if budget['at_least'] else 'at most'} {budget['limit']:g}",
            "" if budget["measured"] is None else f"{budget['measured']:.3g}",
            words[budget["met"]],
        )
        for budget in budgets
    )
    return Sheet("Budgets", 1, ("budget", "limit", "measured", ""), rows)


_SHEETS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Sheet]]] = {
    "throughput": _throughput,
    "overhead": _overhead,
    "colocated": _colocated,
    "steps": _steps,
    "schedule": _schedule,
    "startup": _startup,
    "frontends": _frontends,
    "checkpoint": _checkpoint,
    "quantization": _quantization,
}
