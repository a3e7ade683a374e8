"""What the server says, as tables."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from muxjax.serving.frontends.grpc import inference_pb2 as pb

_COLORS = {
    pb.MODEL_STATE_LOADING: "yellow",
    pb.MODEL_STATE_COMPILING: "yellow",
    pb.MODEL_STATE_READY: "green",
    pb.MODEL_STATE_FAILED: "red",
    pb.MODEL_STATE_STALLED: "red",
    pb.MODEL_STATE_DRAINING: "yellow",
}


_PIPE_WIDTH = 160


def print_models(models: Sequence[pb.Model]) -> None:
    """One row per model, and below it why one failed."""
    table = Table("model", "state", "prompts", box=None)
    for title in ("context", "vocabulary"):
        table.add_column(title, justify="right")
    for model in models:
        ready = model.state == pb.MODEL_STATE_READY
        prompts = ("text" if model.has_tokenizer else "token ids") if ready else ""
        figures = (f"{model.max_context:,}", f"{model.vocab_size:,}") if ready else ("", "")
        table.add_row(model.name, _state(model.state), prompts, *figures)
    console = _console()
    console.print(table)
    _print_errors(console, models)


def print_status(status: pb.GetStatusResponse) -> None:
    """The pool on a line, and one row per model."""
    used = status.blocks_total - status.blocks_free
    console = _console()
    console.print(
        f"pool: {used:,} of {status.blocks_total:,} head blocks used, fairness gap {status.fairness_gap:.3f}; "
        f"{status.steps:,} steps; up {duration(status.uptime_seconds)}",
        highlight=False,
    )
    table = Table("model", "state", box=None)
    for title in ("running", "waiting", "blocks", "quota", "preempted", "tokens in", "tokens out"):
        table.add_column(title, justify="right")
    for model in status.models:
        figures = (
            model.running,
            model.waiting,
            model.blocks_used,
            model.blocks_quota,
            model.preemptions,
            model.prompt_tokens,
            model.generated_tokens,
        )
        table.add_row(model.name, _state(model.state), *(f"{figure:,}" for figure in figures))
    console.print(table)
    _print_errors(console, status.models)


def print_logprobs(token_ids: Sequence[int], logprobs: Sequence[pb.TokenLogprobs]) -> None:
    """One row per token, with the likeliest ones."""
    table = Table(box=None)
    table.add_column("token", justify="right")
    table.add_column("logprob", justify="right")
    table.add_column("likeliest")
    for token_id, entry in zip(token_ids, logprobs, strict=True):
        top = "  ".join(f"{token.token_id}: {token.logprob:.3f}" for token in entry.top)
        table.add_row(str(token_id), f"{entry.logprob:.3f}", top)
    _console().print(table)


def _console() -> Console:
    """As wide as the terminal; wide enough where there is none."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def _print_errors(console: Console, models: Sequence[pb.Model | pb.ModelStatus]) -> None:
    for model in models:
        if model.error:
            console.print(f"{model.name} failed: {model.error}", style="red", markup=False, highlight=False)


def _state(state: pb.ModelState) -> str:
    name = pb.ModelState.Name(state).removeprefix("MODEL_STATE_").lower()
    return f"[{_COLORS.get(state, 'default')}]{name}[/]"


def duration(seconds: float) -> str:
    """A time that a server has run."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds) % 60} s"
