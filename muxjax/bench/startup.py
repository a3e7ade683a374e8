"""Seconds from starting `python -m muxjax.serve` until every LLM is ready, with and without compiled programs."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from muxjax.bench.result import BenchError, Budget, Part, median
from muxjax.bench.settings import Settings

_MOST_SECONDS = {"empty": 20.0, "full": 8.0}


def measure(settings: Settings, tell: Callable[[str], None]) -> Part:
    """Start with an empty cache, and then with what that left behind, round by round."""
    rounds = []
    for _ in range(settings.rounds):
        with tempfile.TemporaryDirectory() as cache:
            started = {}
            for state in _MOST_SECONDS:
                tell(f"startup with {'an' if state == 'empty' else 'a'} {state} cache")
                started[state] = _start(cache, settings.serve_config)
            rounds.append(started)
    seconds = {state: median([one[state]["serving"] for one in rounds]) for state in _MOST_SECONDS}
    budgets = (
        Budget(f"seconds to serve with the cache {state}", most, seconds[state], at_least=False)
        for state, most in _MOST_SECONDS.items()
    )
    served = "the demo models" if settings.serve_config is None else "a configuration"
    return Part({"served": served, "seconds": seconds, "rounds": rounds}, tuple(budgets))


def _start(cache: str, config: Path | None) -> dict[str, Any]:
    """Serve until all is ready, then stop; returns when what was ready, in seconds. Raises BenchError."""
    command = [sys.executable, "-m", "muxjax.serve", *([str(config)] if config else []), "--port", "0"]
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            milestones: dict[str, Any] = {"ready": {}}
            for line in server.stdout or ():
                event = json.loads(line)
                seconds = time.perf_counter() - started
                if event["event"] == "start":
                    milestones["listening"] = seconds
                elif event["event"] == "ready":
                    milestones["ready"][event["model"]] = seconds
                elif event["event"] == "failed":
                    raise BenchError(f"{event['model']} could not be served: {event['error']}")
                elif event["event"] == "serving":
                    return {**milestones, "serving": seconds}
            errors.seek(0)
            raise BenchError(f"the server ended before it served: {errors.read().strip()}")
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate()
