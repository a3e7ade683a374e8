"""RoPE that depends on the length, served: a sequence has the rotation of its length from beginning to end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.models.attention import causal_attention
from muxjax.models.decoder import Decoder
from muxjax.models.load import load_model
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint
from tests.serving.unit_under_test import Client, greedy, running, unit_spec

SWITCH, CONTEXT = 40, 120


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    rope = {"rope_type": "dynamic", "factor": 3.0}
    config = {**TINY, "max_position_embeddings": SWITCH, "rope_scaling": rope}
    return str(write_checkpoint(tmp_path_factory.mktemp("dynamic"), config, seeded_tensors(config)))


def best_next_tokens(decoder: Decoder, tokens: list[int], length: int) -> list[int]:
    """The likeliest token after each, in a sequence of so many tokens."""

    @jax.jit
    def logits(tokens: jax.Array) -> jax.Array:
        positions = jnp.arange(len(tokens))
        hidden, _ = decoder(tokens, positions, causal_attention, lengths=jnp.full(len(tokens), length))
        return decoder.logits(hidden)

    return np.asarray(logits(jnp.asarray(tokens))).argmax(axis=-1).tolist()


@pytest.mark.parametrize("prompt_length", [SWITCH - 25, SWITCH, SWITCH + 1])
def test_tokens_are_those_of_a_short_sequence_and_then_of_a_long_one(source: str, prompt_length: int) -> None:
    decoder = load_model(source, dtype=jnp.float32).decoder
    assert decoder.config.max_context == CONTEXT
    prompt = [(7 * index) % 61 for index in range(prompt_length)]
    with running(unit_spec({"llm": source}, max_prefill_tokens=16)) as engine:
        generated = Client(engine).run_prompt("a", "llm", prompt, greedy(CONTEXT - prompt_length)).token_ids
        preemptions = engine.status().llms[0].preemptions
    tokens = [*prompt, *generated]
    as_short, as_long = (best_next_tokens(decoder, tokens, length) for length in (SWITCH, CONTEXT))
    assert as_short[prompt_length:-1] != as_long[prompt_length:-1]
    expected = as_short[:SWITCH] + as_long[SWITCH:]
    assert generated == expected[prompt_length - 1 : -1]
    assert preemptions == (1 if prompt_length <= SWITCH else 0)
