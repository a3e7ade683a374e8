"""Several LLMs are loaded; those that are broken say why, and the others serve."""

import queue
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from muxjax.models.attention import causal_attention
from muxjax.models.load import load_model
from muxjax.models.quantization import Int8Weights, dequantize
from muxjax.serving.engine import Engine
from muxjax.serving.plan import plan_unit
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.spec import LLMSpec, PoolSpec, UnitSpec
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint
from tests.serving.unit_under_test import Client, greedy

PROMPT = [3, 1, 4, 1, 5]


def settled(engine: Engine, news: queue.SimpleQueue[Progress], num: int) -> dict[str, Progress]:
    """The last news of each LLM, when all are ready or have failed."""
    engine.start()
    done: dict[str, Progress] = {}
    while len(done) < num:
        progress = news.get(timeout=120)
        if progress.state in (LLMState.READY, LLMState.FAILED):
            done[progress.llm] = progress
    return done


def test_broken_llms_name_their_files_and_the_others_serve(tmp_path: Path) -> None:
    good = write_checkpoint(tmp_path / "good", TINY, seeded_tensors(TINY))
    truncated = write_checkpoint(tmp_path / "truncated", TINY, seeded_tensors(TINY))
    file = truncated / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    template = write_checkpoint(tmp_path / "template", TINY, seeded_tensors(TINY))
    (template / "tokenizer.json").write_text("{}")
    news: queue.SimpleQueue[Progress] = queue.SimpleQueue()
    specs = [LLMSpec(path.name, str(path), max_sequences=4) for path in (truncated, good, template)]
    engine = Engine(plan_unit(UnitSpec(tuple(specs), PoolSpec(200))), news.put)
    try:
        done = settled(engine, news, 3)
        assert done["good"].state is LLMState.READY
        assert f"{file}: tensor" in str(done["truncated"].error)
        assert f"{template / 'tokenizer.json'}: the tokenizer cannot be read" in str(done["template"].error)
        assert len(Client(engine).run_prompt("a", "good", PROMPT, greedy(8)).token_ids) == 8
    finally:
        engine.close()


def test_a_quantized_llm_serves_the_tokens_of_the_weights_that_it_stands_for(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, TINY, seeded_tensors(TINY))
    decoder = load_model(checkpoint, dtype=jnp.float32, unroll=True).decoder
    quantized = nnx.state(load_model(checkpoint, dtype=jnp.float32, quantization="int8").decoder)
    nnx.update(decoder, jax.tree.map(dequantize, quantized, is_leaf=lambda leaf: isinstance(leaf, Int8Weights)))
    news: queue.SimpleQueue[Progress] = queue.SimpleQueue()
    spec = LLMSpec("int8", str(checkpoint), max_sequences=4, quantization="int8")
    engine = Engine(plan_unit(UnitSpec((spec,), PoolSpec(200))), news.put)
    try:
        assert settled(engine, news, 1)["int8"].state is LLMState.READY
        tokens = Client(engine).run_prompt("a", "int8", PROMPT, greedy(8)).token_ids
    finally:
        engine.close()
    sequence = jnp.asarray(PROMPT + tokens)
    logits = decoder.logits(decoder(sequence, jnp.arange(len(sequence)), causal_attention)[0])
    assert np.asarray(logits[len(PROMPT) - 1 : -1]).argmax(axis=-1).tolist() == tokens
