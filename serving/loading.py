"""Loads and compiles a unit's LLMs one after another; each can be served as soon as it is ready."""

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp

from muxjax.models.errors import ModelError
from muxjax.models.load import LoadedModel, load_model
from muxjax.serving.endpoint import Endpoint
from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.plan import LLMPlan
from muxjax.serving.progress import LLMState, Progress, Report

_log = logging.getLogger(__name__)


def load_llms(
    plans: tuple[LLMPlan, ...],
    executor: JaxExecutor,
    on_ready: Callable[[LLMRuntime], None],
    report: Report,
    should_stop: Callable[[], bool],
) -> None:
    """Make each LLM ready in turn; one that fails is reported and the others go on.

    Args:
        plans: the LLMs, in the order in which to load them.
        executor: where they are to run.
        on_ready: called with each LLM that can run from now on, before it is reported as ready.
        report: hears of every change.
        should_stop: asked between pieces of work; true ends the loading.
    """
    runtimes = []
    for plan in plans:
        if should_stop():
            return
        started = time.monotonic()
        try:
            runtime = _load(plan, executor, report, should_stop, started)
            if runtime is None:
                return
            on_ready(runtime)
            endpoint = _endpoint(plan, runtime.model)
            total = len(runtime.programs)
            seconds = time.monotonic() - started
            report(Progress(plan.name, LLMState.READY, total, total, seconds, endpoint=endpoint))
            runtimes.append(runtime)
        except Exception as error:
            if not isinstance(error, ModelError):
                _log.exception("loading %s failed", plan.name)
            seconds = time.monotonic() - started
            report(Progress(plan.name, LLMState.FAILED, seconds=seconds, error=str(error) or repr(error)))
    for runtime in runtimes:
        runtime.compile_common()


def _endpoint(plan: LLMPlan, model: LoadedModel) -> Endpoint:
    return Endpoint(plan.name, model.config.vocab_size, plan.max_context, model.tokenizer, model.sampling)


def _load(
    plan: LLMPlan, executor: JaxExecutor, report: Report, should_stop: Callable[[], bool], started: float
) -> LLMRuntime | None:
    """The LLM with the programs that it needs, or None if it is to stop."""
    report(Progress(plan.name, LLMState.LOADING))
    spec = plan.spec
    model = load_model(
        spec.source,
        dtype=jnp.dtype(spec.dtype),
        unroll=True,
        quantization=spec.quantization,
        mesh=executor.mesh,
    )
    runtime = executor.load(plan.spec, model, plan.max_context)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="compile") as workers:
        for done, total in runtime.compile_needed(workers):
            if should_stop():
                return None
            report(Progress(plan.name, LLMState.COMPILING, done, total, time.monotonic() - started))
    return runtime
