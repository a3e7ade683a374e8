"""Several LLMs are loaded; those that are broken say why, and the others serve."""

import queue
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from muxjax.models.attention import causal_attention
from muxjax.models.decoder import Decoder
from muxjax.models.load import load_model
from muxjax.models.quantization import Int8Weights, dequantize
from muxjax.serving.engine import Engine
from muxjax.serving.plan import plan_unit
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.spec import LLMSpec, PoolSpec, UnitSpec
from tests.models.checkpoints import TINY, read_golden, seeded_tensors, write_checkpoint, write_golden
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


# Of each way in which the families' layers differ, one; all in eight bits, out of one pool.
FAMILIES = (
    *("gpt2", "gpt_neox", "gemma3_with_two_ropes", "olmo2"),
    *("qwen3_moe_with_dense_layers", "phi3_tied_short_of_its_original_context"),
)


def test_llms_of_many_families_in_eight_bits_serve_the_tokens_of_the_weights_that_these_stand_for(
    tmp_path: Path,
) -> None:
    goldens = {name: read_golden(name) for name in FAMILIES}
    sources = {name: write_golden(tmp_path / name, golden) for name, golden in goldens.items()}
    specs = [LLMSpec(name, str(path), max_sequences=2, quantization="int8") for name, path in sources.items()]
    news: queue.SimpleQueue[Progress] = queue.SimpleQueue()
    engine = Engine(plan_unit(UnitSpec(tuple(specs), PoolSpec(4000))), news.put)
    try:
        done = settled(engine, news, len(specs))
        assert {name: progress.error for name, progress in done.items()} == dict.fromkeys(FAMILIES)
        served = {name: Client(engine).run_prompt("a", name, PROMPT, greedy(8)).token_ids for name in FAMILIES}
    finally:
        engine.close()
    for name, tokens in served.items():
        assert len(tokens) == 8
        assert tokens == likeliest(widened(sources[name]), tokens)


def widened(source: Path) -> Decoder:
    """The model with the weights that its eight bits stand for."""
    decoder = load_model(source, dtype=jnp.float32, unroll=True).decoder
    quantized = nnx.state(load_model(source, dtype=jnp.float32, quantization="int8").decoder)
    nnx.update(decoder, jax.tree.map(dequantize, quantized, is_leaf=lambda leaf: isinstance(leaf, Int8Weights)))
    return decoder


def likeliest(decoder: Decoder, tokens: list[int]) -> list[int]:
    """What follows the prompt, and each of these tokens but the last."""
    sequence = jnp.asarray(PROMPT + tokens)
    logits = jax.jit(lambda model: model.logits(model(sequence, jnp.arange(sequence.size), causal_attention)[0]))
    return np.asarray(logits(decoder)[len(PROMPT) - 1 : -1]).argmax(axis=-1).tolist()
