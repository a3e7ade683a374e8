"""The demo models: their shapes, what they learn from, and for how long."""

from collections.abc import Callable
from dataclasses import dataclass

from muxjax.models.config import DecoderConfig
from muxjax.training.tasks import ArithmeticTask, Task, code_task, prose_task


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that `python -m muxjax.train NAME` needs to make one model.

    Attributes:
        config: the decoder's shape. Shapes differ from model to model on purpose: one pool serves them all.
        make_task: builds tokenizer and data.
        rows: rows of a batch.
        steps: optimizer steps of a whole run.
        learning_rate: its peak, after the warmup and before the cosine decay.
        chat: whether the model learned the chat format.
    """

    config: DecoderConfig
    make_task: Callable[[], Task]
    rows: int
    steps: int
    learning_rate: float
    chat: bool = False


RECIPES: dict[str, Recipe] = {
    "code": Recipe(
        config=DecoderConfig(
            vocab_size=3072,
            hidden_size=128,
            intermediate_size=344,
            num_layers=6,
            num_heads=4,
            num_kv_heads=2,
            head_dim=32,
            max_context=256,
            tie_embeddings=True,
        ),
        make_task=lambda: code_task(context=256, vocab_size=3072),
        rows=8,
        steps=4000,
        learning_rate=3e-3,
    ),
    "prose": Recipe(
        config=DecoderConfig(
            vocab_size=2048,
            hidden_size=192,
            intermediate_size=512,
            num_layers=4,
            num_heads=3,
            num_kv_heads=1,
            head_dim=64,
            max_context=256,
            tie_embeddings=True,
        ),
        make_task=lambda: prose_task(context=256, vocab_size=2048),
        rows=8,
        steps=2000,
        learning_rate=2e-3,
        chat=True,
    ),
    "arithmetic": Recipe(
        config=DecoderConfig(
            vocab_size=15,
            hidden_size=96,
            intermediate_size=256,
            num_layers=3,
            num_heads=2,
            num_kv_heads=2,
            head_dim=48,
            max_context=32,
            tie_embeddings=True,
        ),
        make_task=ArithmeticTask,
        rows=160,
        steps=5000,
        learning_rate=2e-3,
    ),
}
