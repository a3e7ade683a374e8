"""Sampling defaults that a model brings: read once, and taken where a request leaves a parameter open."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from muxjax.models.errors import ConfigError
from muxjax.models.generation_config import read_sampling_defaults
from muxjax.models.load import load_model
from muxjax.serving.endpoint import Endpoint
from muxjax.serving.validation import validate
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint

GREEDY = {"do_sample": False, "temperature": 0.6, "top_k": 5, "repetition_penalty": 1.1}
NEUTRAL = {"top_k": 0, "temperature": 0.0, "repetition_penalty": 1.0, "top_p": 1.0}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"temperature": 0.6, "top_p": 0.9, "do_sample": True}, {"temperature": 0.6, "top_p": 0.9}),
        ({"temperature": 1, "top_k": 20}, {"temperature": 1.0, "top_k": 20}),
        (GREEDY, {"temperature": 0.0, "repetition_penalty": 1.1}),
        ({"do_sample": True, "top_k": -1, "temperature": 0, "repetition_penalty": 1.0, "top_p": 1}, NEUTRAL),
        ({"temperature": None, "top_k": 0, "max_new_tokens": 9, "transformers_version": "4.51.0"}, {"top_k": 0}),
        ({"top_k": None, "eos_token_id": [1, 2], "max_length": 20}, {}),
    ],
)
def test_reads_what_the_file_says(tmp_path: Path, values: dict[str, Any], expected: dict[str, float]) -> None:
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(values))
    assert read_sampling_defaults(path) == expected


@pytest.mark.parametrize("values", [{"temperature": -1}, {"top_p": 0}, {"top_k": 1.5}, {"repetition_penalty": "1"}])
def test_refuses_a_value_that_cannot_be(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=rf"generation_config\.json: {next(iter(values))} must be"):
        read_sampling_defaults(path)


def test_requests_take_the_models_defaults_where_they_say_nothing(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, TINY, seeded_tensors(TINY))
    (checkpoint / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_k": 20, "top_p": 0.9}))
    model = load_model(checkpoint, dtype=jnp.float32)
    endpoint = Endpoint("tiny", 61, 64, None, model.sampling)
    params = validate(endpoint, [1], {"top_p": 0.5, "top_k": None}).sampling
    assert (params.temperature, params.top_k, params.top_p, params.min_p) == (0.6, 20, 0.5, 0.0)
