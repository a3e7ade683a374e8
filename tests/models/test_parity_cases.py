"""The parity cases hold, for every architecture, what can go wrong in it: a new one cannot forget any of it."""

from collections.abc import Mapping
from typing import NamedTuple

import pytest

import muxjax.models.families  # noqa: F401  (registers them)
from muxjax.models import registry
from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.registry import find_architecture
from muxjax.models.rope_scaling import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeScaling,
    YarnScaling,
)
from tests.models.checkpoints import read_golden
from tests.oracle.cases import CASES

# Names of the same mathematics: their cases count as those of the other.
SAME = {
    "LLaMAForCausalLM": "LlamaForCausalLM",
    "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
    "Mistral3ForConditionalGeneration": "MistralForCausalLM",
}
EACH_HEAD_HAS_ITS_KEYS = {"GPT2LMHeadModel", "GPTNeoXForCausalLM", "OPTForCausalLM"}
HEADS_FILL_HIDDEN = EACH_HEAD_HAS_ITS_KEYS | {"PhiForCausalLM", "Phi3ForCausalLM"}
SEES_EVERYTHING = EACH_HEAD_HAS_ITS_KEYS | {
    "GemmaForCausalLM", "GraniteForCausalLM", "LlamaForCausalLM", "Olmo2ForCausalLM", "PhiForCausalLM",
}  # fmt: skip

# As published checkpoints scale RoPE.
SCALINGS: Mapping[str, set[type[RopeScaling]]] = {
    "LlamaForCausalLM": {LinearScaling, DynamicScaling, Llama3Scaling, YarnScaling},
    "Qwen2ForCausalLM": {YarnScaling},
    "Qwen3ForCausalLM": {YarnScaling},
    "Phi3ForCausalLM": {LongRopeScaling},
    "Gemma3ForCausalLM": {LinearScaling},
    "Olmo3ForCausalLM": {YarnScaling},
}


class Case(NamedTuple):
    config: DecoderConfig
    prompt_length: int


OURS = {name for name, found in registry._architectures.items() if type(found).__module__.startswith("muxjax.models.")}


def cases_by_architecture() -> dict[str, list[Case]]:
    cases: dict[str, list[Case]] = {SAME.get(name, name): [] for name in OURS}
    for name in CASES:
        golden = read_golden(name)
        [architecture] = golden["config"]["architectures"]
        config = find_architecture(architecture).read_config(ConfigFields(golden["config"]))
        cases[SAME.get(architecture, architecture)].append(Case(config, len(golden["prompt"])))
    return dict(sorted(cases.items()))


BY_ARCHITECTURE = cases_by_architecture()


@pytest.mark.parametrize("architecture", BY_ARCHITECTURE)
def test_cases_hold_all_that_can_go_wrong(architecture: str) -> None:
    cases = BY_ARCHITECTURE[architecture]
    configs = [case.config for case in cases]
    groups = {1} if architecture in EACH_HEAD_HAS_ITS_KEYS else {1, 3, 8}
    assert {config.queries_per_kv for config in configs} >= groups
    assert {config.tie_embeddings for config in configs} == {True, False}
    assert all(config.vocab_size % 2 for config in configs)
    is_wide = any(config.num_heads * config.head_dim != config.hidden_size for config in configs)
    assert is_wide == (architecture not in HEADS_FILL_HIDDEN)
    slides = any(case.config.sliding_layers and case.config.sliding_window < case.prompt_length for case in cases)
    assert slides == (architecture not in SEES_EVERYTHING)
    ropes = [layer.rope for config in configs for layer in config.layers]
    scalings = {type(rope.scaling) for rope in ropes if rope is not None and rope.scaling is not None}
    assert scalings >= SCALINGS.get(architecture, set())


def test_every_name_has_a_case_of_its_own() -> None:
    named = {name for case in CASES for name in read_golden(case)["config"]["architectures"]}
    assert named == OURS - {"LLaMAForCausalLM"}
