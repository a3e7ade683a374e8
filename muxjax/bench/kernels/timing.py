"""How long a program takes on a device that is driven from afar."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from muxjax.bench.kernels.scale import Scale

MAX_OPERATIONS = 8
_MAX_CALLS = 1000


def operations_per_call(nbytes: float, scale: Scale) -> int:
    """How many operations, each on data of its own, a program must hold to read more than caches have room for."""
    return int(np.clip(-(-scale.cold_bytes // max(nbytes, 1)), 1, MAX_OPERATIONS))


def time_operations[State](
    advance: Callable[[State], State], state: State, operations: int, scale: Scale
) -> dict[str, float]:
    """Microseconds of one of the `operations` of a program that is dispatched again and again, the device never idle.

    Args:
        advance: starts the program on a state and returns the next one, as does a jitted function that may donate it.
        state: the first one.
        operations: the program's.
        scale: how often.

    Returns:
        `us`: the median of all rounds; `us_least` and `us_most`: of one.
    """
    state = jax.block_until_ready(advance(state))
    started = time.perf_counter()
    state = jax.block_until_ready(advance(state))
    calls = int(np.clip(scale.round_seconds / (time.perf_counter() - started), 1, _MAX_CALLS))
    rounds = []
    for _ in range(scale.rounds):
        started = time.perf_counter()
        for _ in range(calls):
            state = advance(state)
        jax.block_until_ready(state)
        rounds.append((time.perf_counter() - started) / (calls * operations) * 1e6)
    return {"us": float(np.median(rounds)), "us_least": min(rounds), "us_most": max(rounds)}


def compile_timed(function: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
    """The jitted function, its kernels launched one by one: a graph's launch is another thing to measure."""
    options = {} if jax.default_backend() == "cpu" else {"xla_gpu_enable_command_buffer": ""}
    return jax.jit(function, donate_argnums=(0,) if donate else (), compiler_options=options)
