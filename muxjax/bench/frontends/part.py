"""Tokens that the frontends stream in a second, and how much later than made they arrive.

The server runs on one core, the load on the others. What is offered is twice what is asked for; latencies are measured
at half of it.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from muxjax.bench.frontends.load import CLIENTS
from muxjax.bench.result import BenchError, Budget, Part, median
from muxjax.bench.settings import Settings

_LEAST_TOKENS_PER_SECOND = 20_000.0
_MOST_P99_MS = 5.0
_SECONDS_LIMIT = 120


def measure(settings: Settings, tell: Callable[[str], None]) -> Part:
    """Every protocol, at twice and at half of the rate that is asked for."""
    cases, budgets = [], []
    for protocol in CLIENTS:
        tell(f"frontends: {protocol}, {settings.frontend_streams} streams")
        full = [_measure(protocol, 2 * _LEAST_TOKENS_PER_SECOND, settings) for _ in range(settings.rounds)]
        half = [_measure(protocol, _LEAST_TOKENS_PER_SECOND / 2, settings) for _ in range(settings.rounds)]
        speed = median([one["tokens_per_second"] for one in full])
        late = median([one["latency_ms"]["p99"] for one in half])
        cases.append({"protocol": protocol, "tokens_per_second": speed, "p99_ms": late, "full": full, "half": half})
        budgets += [
            Budget(f"streamed tokens/s, {protocol}", _LEAST_TOKENS_PER_SECOND, speed, at_least=True),
            Budget(f"added latency p99 ms, {protocol}", _MOST_P99_MS, late, at_least=False),
        ]
    return Part({"streams": settings.frontend_streams, "cases": cases}, tuple(budgets))


def _measure(protocol: str, rate: float, settings: Settings) -> dict[str, Any]:
    """One load on a server of its own. Raises BenchError if tokens were lost."""
    streams, tokens = settings.frontend_streams, settings.frontend_tokens
    with _server(rate, streams) as addresses:
        address = addresses["http" if protocol == "http" else "grpc"]
        command = [sys.executable, "-m", "muxjax.bench.frontends.load", protocol, address, str(streams), str(tokens)]
        load = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_LIMIT, check=False)
    if load.returncode != 0:
        raise BenchError(f"the load of the frontends failed: {load.stderr.strip()}")
    figures: dict[str, Any] = json.loads(load.stdout)
    if figures["tokens"] != streams * tokens:
        raise BenchError(f"{protocol}: {figures['tokens']} tokens of {streams * tokens} arrived")
    return {"offered_tokens_per_second": rate, **figures}


@contextmanager
def _server(rate: float, streams: int) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "muxjax.bench.frontends.server", str(rate), str(streams)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline() if server.stdout else ""
        if not line:
            raise BenchError("the server of the frontends did not start")
        yield json.loads(line)
    finally:
        server.kill()
        server.communicate()
