"""LLMs of five families, of different head sizes, depths and vocabularies, share one pool that is too small for them.

What each should say is what Hugging Face transformers said about it alone (tests/oracle).
"""

from pathlib import Path

import pytest

from muxjax.serving.plan import plan_unit
from muxjax.serving.spec import LLMSpec, PoolSpec, SchedulingSpec, UnitSpec
from tests.models.checkpoints import read_golden, write_golden
from tests.serving.unit_under_test import Client, greedy, running

FAMILIES = {
    "llama": "eight_queries_on_one_kv_head_of_80",
    "gemma": "gemma2_with_tight_caps_and_a_short_window",
    "qwen": "qwen3_moe_with_dense_layers",
    "gpt": "gpt2",
    "phi": "phi3_past_its_original_context_window_and_part_of_each_head_rotated",
}
COPIES = 5
GOLDEN = {llm: read_golden(case) for llm, case in FAMILIES.items()}


def unit(directory: Path, num_blocks: int, policy: str = "adbs") -> UnitSpec:
    llms = tuple(
        LLMSpec(
            llm,
            str(write_golden(directory / llm, golden)),
            max_context=len(golden["prompt"]) + len(golden["generated"]),
            max_sequences=COPIES,
        )
        for llm, golden in GOLDEN.items()
    )
    scheduling = SchedulingSpec(policy, max_prefill_tokens=16, quota_period=0.05)
    return UnitSpec(llms, PoolSpec(num_blocks, block_tokens=2), scheduling)


@pytest.mark.parametrize("policy", ["adbs", "fcfs"])
def test_every_llm_says_what_it_says_alone(tmp_path: Path, policy: str) -> None:
    plans = plan_unit(unit(tmp_path, 10_000)).llms
    assert len({plan.config.head_dim for plan in plans}) == len({plan.config.vocab_size for plan in plans}) == 5
    assert len({plan.config.num_layers for plan in plans}) == 3
    longest = max(-(-plan.max_context // plan.page_tokens) * plan.page_blocks for plan in plans)
    with running(unit(tmp_path, 2 * longest, policy)) as engine:
        client = Client(engine)
        for copy in range(COPIES):
            for llm, golden in GOLDEN.items():
                client.submit_prompt(f"{llm} {copy}", llm, golden["prompt"], greedy(len(golden["generated"])))
        results = client.wait()
        preemptions = {llm.name: llm.preemptions for llm in engine.status().llms}
    assert sum(preemptions.values()) >= 5, "the pool was not small enough to test preemption"
    for (request_id, _), result in results.items():
        assert result.token_ids == GOLDEN[request_id.split()[0]]["generated"], request_id
