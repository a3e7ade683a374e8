"""A step's programs against what the device could do: alone, and packed against one after another."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from muxjax.bench.gpu.scale import Pair, Scale
from muxjax.bench.gpu.step_llm import FreeBlocks, StepLLM
from muxjax.bench.isolated import Case
from muxjax.bench.kernels.paged import BLOCK_ELEMENTS, DTYPE
from muxjax.bench.kernels.timing import time_operations
from muxjax.serving.executor.program import LLMInputs, Programs, run_step

_POOL_LANE = 128
Job = tuple[Programs, LLMInputs[Array]]
_MODES: dict[str, dict[str, Any]] = {
    "packed": {},
    "packed, concurrent command buffers": {"xla_gpu_command_buffer_scheduling_mode": "CONCURRENT"},
}


def alone(scale: Scale) -> Iterator[Case]:
    """One LLM's decode and prefill."""
    llm = StepLLM(scale.shapes[scale.step], max_context=4096)
    for batch, context in scale.decodes:
        labels = {"step": f"{scale.step}: decode {batch} at {context}"}
        yield Case({**labels, "kind": "decode"}, partial(_decode, llm, batch, context, scale))
    for tokens in scale.chunks:
        labels = {"step": f"{scale.step}: prefill {tokens}"}
        yield Case({**labels, "kind": "prefill"}, partial(_prefill, llm, tokens, scale))


def pairs(scale: Scale) -> Iterator[Case]:
    """Two jobs as one program in every mode, and as two."""
    llms = {name: StepLLM(fields, max_context=4096) for name, fields in scale.shapes.items()}
    for pair in scale.pairs:
        words = f"{pair.prefill_llm}: prefill {pair.chunk} + {pair.decode_llm}: decode {pair.batch} at {pair.context}"
        for mode in ("interleaved", *_MODES):
            yield Case({"pair": words, "mode": mode}, partial(_pair, llms, pair, mode, scale))


def _decode(llm: StepLLM, batch: int, context: int, scale: Scale) -> dict[str, Any]:
    inputs = llm.jobs(FreeBlocks(scale.pool_blocks), decode=(batch, context))
    floor = llm.weight_bytes + batch * context * llm.kv_bytes_per_token
    return {**_time([[(llm.functions, inputs)]], {}, scale), "bytes": floor}


def _prefill(llm: StepLLM, tokens: int, scale: Scale) -> dict[str, Any]:
    inputs = llm.jobs(FreeBlocks(scale.pool_blocks), prefill=tokens)
    return {**_time([[(llm.functions, inputs)]], {}, scale), "operations": llm.prefill_operations(tokens)}


def _pair(llms: dict[str, StepLLM], pair: Pair, mode: str, scale: Scale) -> dict[str, Any]:
    blocks = FreeBlocks(scale.pool_blocks)
    first, second, decode = llms[pair.prefill_llm], llms[pair.decode_llm], (pair.batch, pair.context)
    if mode != "interleaved" and first is second:  # through the weights once
        both = [(first.functions, first.jobs(blocks, decode=decode, prefill=pair.chunk))]
        return _time([both], _MODES[mode], scale)
    jobs = [
        (first.functions, first.jobs(blocks, prefill=pair.chunk)),
        (second.functions, second.jobs(blocks, decode=decode)),
    ]
    return _time([[job] for job in jobs], {}, scale) if mode == "interleaved" else _time([jobs], _MODES[mode], scale)


def _time(programs: Sequence[Sequence[Job]], options: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """Microseconds of a step of these programs, one after another, each of these jobs."""
    options = {} if jax.default_backend() == "cpu" else options
    pool = jnp.zeros((scale.pool_blocks, 2, BLOCK_ELEMENTS // _POOL_LANE, _POOL_LANE), DTYPE)
    compiled: list[tuple[Callable[..., Any], tuple[LLMInputs[Array], ...]]] = []
    temp_bytes = 0
    for jobs in programs:
        functions, inputs = zip(*jobs, strict=True)
        step = jax.jit(partial(run_step, functions), donate_argnums=0, compiler_options=options)
        program = step.lower(pool, inputs).compile()
        if (memory := program.memory_analysis()) is not None:
            temp_bytes = max(temp_bytes, memory.temp_size_in_bytes)
        compiled.append((program, inputs))

    def advance(pool: Array) -> Array:
        for program, inputs in compiled:
            pool, _ = program(pool, inputs)
        return pool

    return {**time_operations(advance, pool, 1, scale.kernels), "temp_mib": temp_bytes / 2**20}
