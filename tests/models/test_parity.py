"""Logits within 1e-4 of Hugging Face transformers' in float32, and the same 64 greedy tokens.

Always against golden files; against transformers itself where an interpreter with PyTorch is at hand.
"""

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

from muxjax.models.attention import causal_attention
from muxjax.models.decoder import Decoder
from muxjax.models.load import load_model
from tests.models.checkpoints import seeded_tensors, write_checkpoint
from tests.oracle.cases import CASES, GENERATED

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/oracle/golden"
ORACLE_PYTHON = ROOT / ".venv-oracle/bin/python"


@functools.partial(jax.jit, static_argnames="length")
def padded_logits(decoder: Decoder, tokens: jax.Array, length: int) -> jax.Array:
    hidden, _ = decoder(
        jnp.zeros(length, jnp.int32).at[: len(tokens)].set(tokens), jnp.arange(length), causal_attention
    )
    return decoder.logits(hidden)


def check_against(golden: dict[str, Any], decoder: Decoder) -> None:
    prompt, generated = golden["prompt"], golden["generated"]
    logits = np.asarray(padded_logits(decoder, jnp.asarray(prompt + generated), len(prompt) + GENERATED))
    of_prompt = logits[golden["first_row"] : len(prompt), golden["columns"]]
    np.testing.assert_allclose(of_prompt, golden["logits"], atol=1e-4, rtol=0)
    # Each token is the best after those before it, so by induction greedy decoding gives all of them.
    assert logits[len(prompt) - 1 : -1].argmax(axis=-1).tolist() == generated


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    tensors = seeded_tensors(golden["config"], golden["seed"])
    directory = write_checkpoint(tmp_path, golden["config"], tensors)
    check_against(golden, load_model(directory, dtype=jnp.float32).decoder)


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
    command = [python, "-m", "tests.oracle.generate", "--checkpoints", "--seed", "1", "--directory", str(directory)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.parametrize("name", CASES)
def test_live(name: str, live_checkpoints: Path) -> None:
    golden = json.loads((live_checkpoints / f"{name}.json").read_text())
    assert (live_checkpoints / name / "model.safetensors.index.json").exists()
    check_against(golden, load_model(live_checkpoints / name, dtype=jnp.float32).decoder)
