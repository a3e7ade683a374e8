"""The engine on the kernels that GPUs get, interpreted: the same tokens as in plain JAX."""

import pytest

from muxjax.pallas_kernels import implementation
from muxjax.pallas_kernels.implementation import Choice, Implementation
from muxjax.serving.executor.kernels import kernel_choices
from muxjax.serving.plan import plan_unit
from muxjax.serving.spec import UnitSpec
from tests.serving.unit_under_test import Client, greedy, running, unit_spec, write_configs

PROMPTS = {"short": (1, 2, 3), "longer than a chunk": tuple(range(40)), "of one token": (7,)}


def prefer(monkeypatch: pytest.MonkeyPatch, *names: Implementation) -> None:
    """Let this machine be a device for these implementations."""
    choices = tuple(Choice(name, "preferred by the test") for name in names)
    monkeypatch.setattr(implementation, "preferences", lambda device=None: choices)


def complete(spec: UnitSpec) -> dict[tuple[str, int], list[int]]:
    """What both LLMs make of all prompts, at the same time."""
    with running(spec) as engine:
        client = Client(engine)
        for llm in (llm.name for llm in spec.llms):
            for name, prompt in PROMPTS.items():
                client.submit_prompt(f"{llm} {name}", llm, prompt, greedy(6))
        return {key: result.token_ids for key, result in client.wait().items()}


def test_triton_says_what_plain_jax_says(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {name: source for name, source in write_configs(tmp_path).items() if name in {"odd", "wide"}}
    spec = unit_spec(sources, max_sequences=2, max_prefill_tokens=16, max_context=64)
    prefer(monkeypatch, "xla")
    expected = complete(spec)
    prefer(monkeypatch, "triton", "xla")
    plan = plan_unit(spec)
    chosen = {choice.name for llm in plan.llms for choice in kernel_choices(llm, plan.pool).values()}
    assert chosen == {"triton"}
    assert complete(spec) == expected
    assert all(len(token_ids) == 6 for token_ids in expected.values())
