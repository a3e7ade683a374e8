"""Every family: logits within 1e-4 of Hugging Face transformers' in float32, and the same 64 greedy tokens when served.

Always against golden files; against transformers itself where an interpreter with PyTorch is at hand.
"""

import dataclasses
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from muxjax.models.attention import causal_attention
from muxjax.models.decoder import Decoder
from muxjax.models.huggingface import read_config, write_config
from muxjax.models.load import load_model
from muxjax.serving.plan import plan_unit
from muxjax.serving.spec import LLMSpec, PoolSpec, SchedulingSpec, UnitSpec
from tests.models.checkpoints import read_golden, write_golden
from tests.oracle.cases import CASES, GENERATED
from tests.serving.unit_under_test import Client, greedy, running

ROOT = Path(__file__).parents[2]
ORACLE_PYTHON = ROOT / ".venv-oracle/bin/python"


@functools.partial(jax.jit, static_argnames="length")
def padded_logits(decoder: Decoder, tokens: jax.Array, lengths: jax.Array, length: int) -> jax.Array:
    padded = jnp.zeros(length, jnp.int32).at[: len(tokens)].set(tokens)
    hidden, _ = decoder(padded, jnp.arange(length), causal_attention, lengths=lengths)
    return decoder.logits(hidden)


def check_against(golden: dict[str, Any], decoder: Decoder) -> None:
    prompt, generated = golden["prompt"], golden["generated"]
    tokens, length = jnp.asarray(prompt + generated), len(prompt) + len(generated)
    logits = np.asarray(padded_logits(decoder, tokens, jnp.full(length, len(prompt)), length))
    of_prompt = logits[golden["first_row"] : len(prompt), golden["columns"]]
    np.testing.assert_allclose(of_prompt, golden["logits"], atol=1e-4, rtol=0)
    if decoder.config.length_switch is None:
        # Each token is the best after those before it, so by induction greedy decoding gives all of them.
        assert logits[len(prompt) - 1 : -1].argmax(axis=-1).tolist() == generated


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    model = load_model(write_golden(tmp_path, golden), dtype=jnp.float32)
    check_against(golden, model.decoder)
    leaves = jax.tree.leaves(nnx.state(model.decoder))
    assert model.config.num_parameters == sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize("name", CASES)
def test_config_is_read_back_as_written(name: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    (tmp_path / "config.json").write_text(json.dumps(golden["config"]))
    architecture, config = read_config(tmp_path / "config.json")
    write_config(tmp_path, architecture, config, ())
    assert read_config(tmp_path / "config.json") == (architecture, config)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.get("generated", GENERATED)])
def test_golden_tokens_are_served_in_chunks_and_after_preemption(name: str, tmp_path: Path) -> None:
    """Two copies of the request, in a pool where the second loses its pages and is computed again."""
    golden = read_golden(name)
    prompt, generated = golden["prompt"], golden["generated"]
    source = str(write_golden(tmp_path, golden))
    llms = (LLMSpec("llm", source, max_context=len(prompt) + len(generated), max_sequences=2),)
    pool = PoolSpec(10_000, block_tokens=2)
    [plan] = plan_unit(UnitSpec(llms, pool)).llms
    pages = sum(-(-tokens // plan.page_tokens) for tokens in (len(prompt), len(prompt) + len(generated)))
    pool = dataclasses.replace(pool, num_blocks=1 + plan.page_blocks * pages)
    with running(UnitSpec(llms, pool, SchedulingSpec("fcfs", max_prefill_tokens=7))) as engine:
        client = Client(engine)
        for request_id in ("first", "second"):
            client.submit_prompt(request_id, "llm", prompt, greedy(len(generated)))
        results = client.wait()
        assert engine.status().llms[0].preemptions > 0
    assert [result.token_ids for result in results.values()] == [generated, generated]


def oracle_python() -> str | None:
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        return sys.executable
    return str(ORACLE_PYTHON) if ORACLE_PYTHON.exists() else None


@pytest.fixture(scope="module")
def live_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that transformers saved just now, each beside what transformers says about it."""
    python = oracle_python()
    if python is None:
        pytest.skip("no interpreter with PyTorch and transformers: `make oracle` makes one")
    directory = tmp_path_factory.mktemp("live")
    command = [python, "-m", "tests.oracle.generate", "--seed", "1", "--directory", str(directory)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(directory.glob("*/model.safetensors.index.json")), "no model is in several files"
    return directory


@pytest.mark.parametrize("name", CASES)
def test_live(name: str, live_checkpoints: Path) -> None:
    golden = json.loads((live_checkpoints / f"{name}.json").read_text())
    check_against(golden, load_model(live_checkpoints / name, dtype=jnp.float32).decoder)
