"""What weights of eight bits lose on the demo models' held-out texts, and what a decode step takes with them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from muxjax.bench.bare import BareDecode
from muxjax.bench.result import Part, median, median_ratio
from muxjax.bench.settings import Settings
from muxjax.bench.unit import unit_of
from muxjax.models.attention import causal_attention
from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.load import LoadedModel, load_model, weight_bytes
from muxjax.models.source import demo_names
from muxjax.training.evaluation import Continuation, demo_continuations, evaluate

_STEPS = 32


def measure(settings: Settings, model: Path, config: DecoderConfig, tell: Callable[[str], None]) -> Part:
    """Quality of the demo models, speed of the random one."""
    models = []
    for name in demo_names():
        tell(f"quantization: what {name} loses")
        models.append(_loss(name, settings.quality_texts))
    tell("quantization: decode steps")
    decode = [_decode(settings, model, config, batch) for batch in sorted({1, *settings.batch_sizes})]
    return Part({"models": models, "decode": decode}, ())


def _loss(name: str, num_texts: int) -> dict[str, Any]:
    """Perplexity by token, and how far the logits are off, over the first held-out texts."""
    source = f"demo:{name}"
    plain = load_model(source, dtype=jnp.float32, unroll=True)
    quantized = load_model(source, dtype=jnp.float32, quantization="int8")
    continuations = demo_continuations(name, plain, limit=num_texts)
    qualities = {"float32": evaluate(plain, continuations), "int8": evaluate(quantized, continuations)}
    bits = {kind: quality.bits_per_byte for kind, quality in qualities.items()}
    num_tokens = sum(len(continuation.text) for continuation in continuations)
    lost_bits = (bits["int8"] - bits["float32"]) * qualities["int8"].text_bytes / num_tokens  # by token
    errors = np.concatenate(list(_logit_errors(plain, quantized, continuations)))
    memory_ratio = weight_bytes(source, dtype="float32", quantization="int8") / weight_bytes(source, dtype="float32")
    return {
        "model": name,
        "texts": len(continuations),
        "bits_per_byte": bits,
        "exact_match": {kind: quality.exact_match for kind, quality in qualities.items()},
        "perplexity_ratio": 2**lost_bits,
        "max_logit_error": float(errors.max()),
        "mean_logit_error": float(errors.mean()),
        "memory_ratio": memory_ratio,
    }


def _logit_errors(
    plain: LoadedModel, quantized: LoadedModel, continuations: list[Continuation]
) -> Iterator[Float[np.ndarray, "tokens vocab"]]:
    """|difference| of the logits of the first context of each text, the mean of each row taken off."""
    context = min(plain.config.max_context, max(len(c.prompt) + len(c.text) for c in continuations))

    @jax.jit
    def centred_logits(decoder: Decoder, tokens: Array) -> Array:
        rows = decoder.logits(decoder(tokens, jnp.arange(context), causal_attention)[0])
        return rows - rows.mean(axis=-1, keepdims=True)  # a softmax does not see the mean

    for continuation in continuations[:8]:
        tokens = (continuation.prompt + continuation.text)[:context]
        padded = jnp.zeros(context, jnp.int32).at[: len(tokens)].set(jnp.asarray(tokens))
        rows = [np.asarray(centred_logits(model.decoder, padded)) for model in (plain, quantized)]
        yield np.abs(rows[0] - rows[1])[: len(tokens)]


def _decode(settings: Settings, model: Path, config: DecoderConfig, batch: int) -> dict[str, Any]:
    """Milliseconds of a step of the bare programs, in turn."""
    tokens = settings.prompt_tokens + _STEPS
    spec = unit_of({"bare": str(model)}, config, dtype="float32", sequences=batch, tokens=tokens)
    loaded = {
        "float32": load_model(model, dtype=jnp.float32, unroll=True),
        "int8": load_model(model, dtype=jnp.float32, quantization="int8"),
    }
    programs = {
        kind: BareDecode(one, spec.pool, batch_size=batch, first_length=settings.prompt_tokens, steps=_STEPS)
        for kind, one in loaded.items()
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in programs}
    for _ in range(settings.rounds):
        for kind, program in programs.items():
            seconds[kind].append(program.seconds())
    return {
        "batch": batch,
        "ms_per_step": {kind: 1e3 * median(times) / _STEPS for kind, times in seconds.items()},
        "ratio": median_ratio(seconds["float32"], seconds["int8"]),
    }
