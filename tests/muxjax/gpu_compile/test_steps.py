"""The steps that the gate compiles are the engine's own, but for the weights, which are shapes only."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import pytest

from muxjax.gpu_compile.kernels import kernel_cases
from muxjax.gpu_compile.steps import MODELS, AbstractLLM, step_cases
from muxjax.models.load import Quantization, load_model
from muxjax.models.spread import make_mesh
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.plan import build_scheduler, plan_unit
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.spec import LLMSpec, PoolSpec, UnitSpec
from tests.serving.unit_under_test import write_configs


def test_an_abstract_llm_brings_what_the_engines_llm_brings(tmp_path) -> None:
    for source in write_configs(tmp_path).values():
        spec = LLMSpec("llm", source, dtype="bfloat16", max_sequences=8)
        plan = plan_unit(UnitSpec((spec,), PoolSpec(100_003, dtype="bfloat16")))
        pool, _ = build_scheduler(plan)
        with ThreadPoolExecutor(1) as background:
            runtime = LLMRuntime(
                spec,
                load_model(source, dtype="bfloat16"),
                pool,
                jax.ShapeDtypeStruct((100_003, 2, 32, 128), jnp.bfloat16),
                max_context=plan.llms[0].max_context,
                max_prefill_tokens=64,
                background=background,
            )
        abstract = AbstractLLM.of(source, runtime.mesh)
        assert abstract.functions == runtime.functions
        brought = runtime.shapes({JobKind.DECODE: 8, JobKind.PREFILL: 64})
        assert shapes(abstract.inputs(decode=8, prefill=64)) == shapes(brought)


@pytest.mark.parametrize(
    ("model", "quantization", "copy"),
    [("qwen3-30b-a3b", None, 128 * 3 * 768 * 2048), ("llama-3-8b", "int8", 4096 * 2 * 14336)],
)
def test_a_step_has_no_room_for_a_copy_of_a_layers_experts_or_of_widened_weights(
    model: str, quantization: Quantization | None, copy: int
) -> None:
    llm = AbstractLLM.of(f"random:{MODELS / model}.json", make_mesh(jax.devices()[:1]), quantization)
    assert llm.temp_bound(decode=64, prefill=0) < 2 * copy


def shapes(tree: object) -> object:
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)


def test_every_case_can_be_told_from_the_others() -> None:
    names = [(case.target, case.name) for case in (*step_cases(), *kernel_cases())]
    assert len(set(names)) == len(names)
