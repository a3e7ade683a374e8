"""Units over several devices: the tokens of one device, no copy of the pool, and two sums over devices a layer."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from muxjax.models.load import load_model
from muxjax.models.spread import make_mesh
from muxjax.serving.executor.llm_runtime import LLMRuntime, compile_step
from muxjax.serving.executor.packed import PackedKey
from muxjax.serving.executor.program import sample_next
from muxjax.serving.executor.slots import SamplingTable, SlotState
from muxjax.serving.executor.spmd import POOL, STATE, VOCABULARY, WHOLE, spread
from muxjax.serving.plan import build_scheduler, plan_unit
from muxjax.serving.request import SamplingParams
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.spec import LLMSpec, PoolSpec, SchedulingSpec, UnitSpec
from tests.models.checkpoints import read_golden, write_golden
from tests.serving.unit_under_test import Client, greedy, running

FAMILIES = {
    2: [
        "gemma2_with_tight_caps_and_a_short_window",
        "qwen2_tied",
        "qwen3_moe_with_dense_layers",
        "olmo2",
    ],
    4: ["gpt2", "gemma3_with_two_ropes"],
    8: ["eight_queries_on_one_kv_head_of_80"],
}
COPIES = 2


def unit(directory: Path, devices: int, num_blocks: int) -> UnitSpec:
    goldens = {case: read_golden(case) for case in FAMILIES[devices]}
    llms = tuple(
        LLMSpec(
            case,
            str(write_golden(directory / case, golden)),
            max_context=len(golden["prompt"]) + len(golden["generated"]),
            max_sequences=COPIES,
        )
        for case, golden in goldens.items()
    )
    scheduling = SchedulingSpec(max_prefill_tokens=16, quota_period=0.05)
    return UnitSpec(llms, PoolSpec(num_blocks, block_tokens=2), scheduling, tensor_parallel=devices)


@pytest.mark.parametrize("devices", FAMILIES)
def test_llms_that_share_devices_say_what_each_says_alone_on_one(tmp_path: Path, devices: int) -> None:
    """In chunks, and in a pool so small that they preempt each other; what they should say is from transformers."""
    plans = plan_unit(unit(tmp_path, devices, 10_000)).llms
    longest = max(-(-plan.max_context // plan.page_tokens) * plan.page_blocks for plan in plans)
    with running(unit(tmp_path, devices, longest + longest // 2)) as engine:
        client = Client(engine)
        for copy in range(COPIES):
            for case in FAMILIES[devices]:
                golden = read_golden(case)
                client.submit_prompt(f"{case} {copy}", case, golden["prompt"], greedy(len(golden["generated"])))
        results = client.wait()
        assert sum(llm.preemptions for llm in engine.status().llms) >= 1, "the pool was not small enough"
    for (request_id, _), result in results.items():
        assert result.token_ids == read_golden(request_id.split()[0])["generated"], request_id


def test_jobs_of_llms_that_share_devices_say_the_same_in_one_program(tmp_path: Path, packed: list[PackedKey]) -> None:
    """Each LLM with one size of decode, so that few programs are compiled."""
    spec = unit(tmp_path, 2, 10_000)
    spec = replace(spec, llms=spec.llms[:2], scheduling=replace(spec.scheduling, overlap="packed"))
    cases = [llm.name for llm in spec.llms]
    with running(spec) as engine:
        client = Client(engine)
        for copy in range(2 * COPIES):
            for case in cases:
                golden = read_golden(case)
                client.submit_prompt(f"{case} {copy}", case, golden["prompt"], greedy(len(golden["generated"])))
        results = client.wait()
        assert sum(llm.errors for llm in engine.status().llms) == 0
    assert any(len(key) == 2 for key in packed), "no two LLMs were in one program"
    assert any(part.decode and part.prefill for key in packed for part in key), "no LLM had both jobs in one program"
    for (request_id, _), result in results.items():
        assert result.token_ids == read_golden(request_id.split()[0])["generated"], request_id


def test_programs_sum_twice_a_layer_and_copy_no_pool(tmp_path: Path) -> None:
    """Those of one job, and those of several jobs of two LLMs."""
    num_blocks, devices = 1001, 2
    cases = ("llama3_rope_untied_heads_wider_than_hidden", "gpt2")
    specs = tuple(LLMSpec(case, str(write_golden(tmp_path / case, read_golden(case)))) for case in cases)
    plan = plan_unit(UnitSpec(specs, PoolSpec(num_blocks), SchedulingSpec(max_prefill_tokens=64), devices))
    pool, _ = build_scheduler(plan)
    mesh = make_mesh(jax.devices()[:devices])
    shape = jax.ShapeDtypeStruct((devices * num_blocks, 2, 32, 128), jnp.float32, sharding=NamedSharding(mesh, POOL))
    with ThreadPoolExecutor(1) as background:
        first, second = (
            LLMRuntime(
                spec,
                load_model(spec.source, dtype=jnp.float32, mesh=mesh),
                pool,
                shape,
                max_context=128,
                max_prefill_tokens=64,
                background=background,
                mesh=mesh,
            )
            for spec in specs
        )
    decode, prefill = {JobKind.DECODE: 4}, {JobKind.PREFILL: 64}
    for llms, sizes in (
        ([first], [decode]),
        ([first, second], [prefill, decode]),
    ):
        program = compile_step(llms, shape, sizes).forward
        text = program.as_text()
        sums = re.findall(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\(", text)
        wanted = sum(2 * llm.model.config.num_layers + 1 for llm in llms)  # one for the embedding
        assert set(sums) == {"all-reduce"}, sizes
        assert len(sums) == wanted or (len(llms) > 1 and len(sums) < wanted), sizes  # XLA joins those of two LLMs
        own_pool = num_blocks * 2 * 32 * 128
        copies = re.findall(r"copy[\w.-]* = \w+\[([\d,]+)\]", text)
        assert all(np.prod([int(size) for size in copied.split(",")]) < own_pool for copied in copies), sizes
        memory = program.memory_analysis()
        assert memory.alias_size_in_bytes >= own_pool * 4, "the pool is not donated"
        assert memory.temp_size_in_bytes < own_pool, sizes


OPTIONS = [
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.7, "presence_penalty": 0.5, "frequency_penalty": 0.8},
    {"temperature": 0, "logit_bias": {3: 9.0, 60: -100.0, 129: 9.0}},
    {"temperature": 0, "min_tokens": 5},
    {"temperature": 1.0},
    {"temperature": 1.5, "top_k": 7},
    {"temperature": 1.5, "top_p": 0.6},
    {"temperature": 0.8, "min_p": 0.05, "top_k": 50, "top_p": 0.9},
    {"temperature": 2.0, "repetition_penalty": 0.6, "logprobs": 5, "min_tokens": 3},
]


def test_sampling_is_exactly_that_of_one_device() -> None:
    """With every option at once in a batch, its counts carried along, ties, and a row of logits that is broken."""
    devices, vocab, columns, steps = 8, 131, 136, 12
    rng = np.random.default_rng(0)
    logits = np.round(rng.standard_normal((steps, len(OPTIONS) + 1, vocab)) * 6).astype(np.float32) / 2
    logits[:, -1, 77] = np.nan
    tokens, logprobs = sampled(logits, 1)
    padded = np.pad(logits, ((0, 0), (0, 0), (0, columns - vocab)), constant_values=-1e30)
    tokens_of_many, logprobs_of_many = sampled(padded, devices)
    np.testing.assert_array_equal(tokens_of_many, tokens)
    np.testing.assert_allclose(logprobs_of_many, logprobs, atol=1e-6)
    assert len(np.unique(tokens)) > 20
    assert np.all(tokens[:, -1] == -1)


def sampled(logits: np.ndarray, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """The tokens and the log probabilities of each step, of a row with each of OPTIONS and one that is greedy."""
    mesh, vocab = make_mesh(jax.devices()[:devices]), 131
    seqs = logits.shape[1]
    table = SamplingTable(seqs, vocab, NamedSharding(mesh, WHOLE))
    for slot, options in enumerate([*OPTIONS, {"temperature": 0}]):
        sampling = SamplingParams(seed=slot, **options)
        table.set(slot, sampling, index=0, prompt_length=10, end_ids=(2, 100, 130))
    state = SlotState.empty(seqs, logits.shape[2])
    sample = jax.jit(spread(sample_next, mesh, (STATE, WHOLE, WHOLE, WHOLE, VOCABULARY), (STATE, WHOLE)))
    load = jax.jit(spread(SlotState.load_counts, mesh, (STATE, WHOLE, WHOLE, WHOLE), STATE))
    prompt = np.array([5, 5, 80, 130, vocab], np.int32)
    slots = np.arange(seqs, dtype=np.int32)
    for slot in slots:
        state = load(state, slot, prompt, np.array([False, False, True, False, True]))
    tokens, logprobs = [], []
    for step, of_step in enumerate(logits):
        state, result = sample(state, table.on_device(), slots, np.full(seqs, 10 + step, np.int32), of_step)
        tokens.append(np.asarray(result.tokens))
        logprobs.append(np.concatenate([result.logprobs[:, None], result.top_ids, result.top_logprobs], axis=1))
    return np.stack(tokens), np.stack(logprobs)
