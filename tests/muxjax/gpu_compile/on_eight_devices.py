"""The steps that the gate compiles for several GPUs are the engine's own."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax

from muxjax.gpu_compile.steps import AbstractLLM
from muxjax.models.load import load_model
from muxjax.models.spread import make_mesh
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.executor.spmd import pool_shape
from muxjax.serving.plan import build_scheduler, plan_unit
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.spec import LLMSpec, PoolSpec, UnitSpec
from tests.models.checkpoints import TINY


def test_an_abstract_llm_lies_on_its_devices_as_the_engines_llm_does(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**TINY, "num_attention_heads": 4, "num_key_value_heads": 2}))
    mesh, source = make_mesh(jax.devices()[:4]), f"random:{path}"
    spec = LLMSpec("llm", source, dtype="bfloat16", max_sequences=8)
    of_pool = PoolSpec(100_003, dtype="bfloat16")
    plan = plan_unit(UnitSpec((spec,), of_pool, tensor_parallel=4))
    pool, _ = build_scheduler(plan)
    with ThreadPoolExecutor(1) as background:
        runtime = LLMRuntime(
            spec,
            load_model(source, dtype="bfloat16", mesh=mesh),
            pool,
            pool_shape(of_pool, mesh),
            max_context=plan.llms[0].max_context,
            max_prefill_tokens=64,
            background=background,
            mesh=mesh,
        )
    abstract = AbstractLLM.of(source, mesh)
    assert abstract.functions == runtime.functions
    assert abstract.inputs(decode=8, prefill=64) == runtime.shapes({JobKind.DECODE: 8, JobKind.PREFILL: 64})
