"""Next-token loss of a decoder over a batch of whole rows."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from muxjax.models.decoder import Decoder
from muxjax.training.attention import blocked_causal_attention


@dataclass(frozen=True, slots=True)
class Scores:
    """What a decoder made of a batch.

    Attributes:
        nll: negative log-likelihood of every next token, in nats; 0 where not scored.
        right: whether the likeliest token was the next one; True where not scored.
    """

    nll: Float[Array, "rows context"]
    right: Bool[Array, "rows context"]


jax.tree_util.register_dataclass(Scores, data_fields=["nll", "right"], meta_fields=[])


def score(decoder: Decoder, tokens: Int[Array, "rows context_plus_1"], scored: Bool[Array, "rows context"]) -> Scores:
    """How well the decoder predicts every token from those before it in its row.

    The decoder sees all rows as one long run of tokens (its products stay large); only attention splits them.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    rows, context = inputs.shape

    def attend(
        queries: Array,
        keys: Array,
        values: Array,
        *,
        sm_scale: float,
        sliding_window: int | None,
        soft_cap: float | None,
    ) -> Array:
        by_row = [part.reshape(rows, context, *part.shape[1:]) for part in (queries, keys, values)]
        attend_row = partial(
            blocked_causal_attention, sm_scale=sm_scale, sliding_window=sliding_window, soft_cap=soft_cap
        )
        return jax.vmap(attend_row)(*by_row).reshape(queries.shape)

    positions = jnp.tile(jnp.arange(context), rows)
    hidden, _ = decoder(inputs.reshape(-1), positions, attend)
    logits = decoder.logits(hidden).reshape(rows, context, -1)
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return Scores(
        nll=jnp.where(scored, log_normalizer - target_logits, 0.0),
        right=(target_logits >= logits.max(axis=-1)) | ~scored,
    )


def mean_nll(decoder: Decoder, tokens: Int[Array, "rows context_plus_1"], scored: Bool[Array, "rows context"]) -> Array:
    """The training loss: mean nats of the scored tokens."""
    return score(decoder, tokens, scored).nll.sum() / jnp.maximum(scored.sum(), 1)


@nnx.jit
def score_jit(decoder: Decoder, tokens: Array, scored: Array) -> Scores:
    """`score`, compiled."""
    return score(decoder, tokens, scored)
