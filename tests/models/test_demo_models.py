"""The models that are shipped are as good as the README says."""

import jax.numpy as jnp
import pytest

from muxjax.models.attention import causal_attention
from muxjax.models.load import LoadedModel, load_model
from muxjax.models.source import DEMO_DIRECTORY, demo_names
from muxjax.training.evaluation import demo_continuations, evaluate
from muxjax.training.recipes import RECIPES

NAMES = ("arithmetic", "code", "prose")
MOST_BITS_PER_BYTE = {"code": 2.2, "prose": 2.5}


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    return {name: load_model(f"demo:{name}", dtype=jnp.float32) for name in NAMES}


def greedy(model: LoadedModel, token_ids: list[int], max_tokens: int) -> str:
    """What the model writes after the prompt, all of it computed anew for every token."""
    assert model.tokenizer is not None
    written = list(token_ids)
    for _ in range(max_tokens):
        padded = jnp.asarray(written + [0] * (len(token_ids) + max_tokens - len(written)))
        hidden, _ = model.decoder(padded, jnp.arange(len(padded)), causal_attention)
        written.append(int(model.decoder.logits(hidden)[len(written) - 1].argmax()))
        if written[-1] in model.eos_token_ids:
            break
    return model.tokenizer.decode(written[len(token_ids) :])


def test_three_models_are_shipped() -> None:
    assert demo_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_demo_model_is_what_its_recipe_says_and_small(models: dict[str, LoadedModel], name: str) -> None:
    assert models[name].config == RECIPES[name].config
    assert sum(file.stat().st_size for file in (DEMO_DIRECTORY / name).rglob("*")) < 8_000_000


def test_the_demo_models_differ_in_every_size(models: dict[str, LoadedModel]) -> None:
    for size in ("num_layers", "hidden_size", "num_heads", "head_dim"):
        assert len({getattr(model.config, size) for model in models.values()}) == len(NAMES)


@pytest.mark.parametrize(
    ("question", "answer"),
    [("123+456=", "579"), ("12 + 34 =", "46"), ("7+5=", "12"), ("25+8=", "33"), ("999+1=", "1000")],
)
def test_the_arithmetic_model_adds(models: dict[str, LoadedModel], question: str, answer: str) -> None:
    model = models["arithmetic"]
    assert model.tokenizer is not None
    assert greedy(model, model.tokenizer.encode(question), max_tokens=6) == answer


def test_the_arithmetic_model_answers_held_out_sums(models: dict[str, LoadedModel]) -> None:
    model = models["arithmetic"]
    assert evaluate(model, demo_continuations("arithmetic", model, limit=400)).exact_match >= 0.95


@pytest.mark.parametrize(("name", "limit"), [("code", 2), ("prose", 20)])
def test_text_that_was_held_out_is_likely(models: dict[str, LoadedModel], name: str, limit: int) -> None:
    quality = evaluate(models[name], demo_continuations(name, models[name], limit=limit))
    assert quality.bits_per_byte <= MOST_BITS_PER_BYTE[name] + 0.3  # a small sample, and files differ


def test_the_prose_model_chats(models: dict[str, LoadedModel]) -> None:
    model = models["prose"]
    assert model.tokenizer is not None
    prompt = model.tokenizer.apply_chat_template([{"role": "user", "content": "What does os.path.join do?"}])
    assert len(greedy(model, prompt, max_tokens=12)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_that_was_held_out(models: dict[str, LoadedModel], name: str) -> None:
    quality = evaluate(models[name], demo_continuations(name, models[name]))
    if name == "arithmetic":
        assert quality.exact_match >= 0.95
    else:
        assert quality.bits_per_byte <= MOST_BITS_PER_BYTE[name]
