"""The training loop: AdamW under a warmup and a cosine, resumable."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import orbax.checkpoint.experimental.v1 as ocp  # type: ignore[import-untyped]
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PyTree

from muxjax.models.decoder import Decoder
from muxjax.training.loss import mean_nll, score_jit
from muxjax.training.recipes import Recipe
from muxjax.training.tasks import Task

WARMUP_FRACTION = 0.03
FINAL_FRACTION = 0.05  # of the peak learning rate
REPORT_EVERY = 50  # steps


@dataclass(frozen=True, slots=True)
class Report:
    """Where training stands.

    Attributes:
        step: optimizer steps done.
        seconds: spent in all, over the runs that were resumed.
        progress: 1 is done: the fraction of the recipe's steps or of the time limit, whichever is further.
        training_loss: mean nats of a scored token over the last steps.
        held_out_loss: the same on the fixed held-out sample.
        held_out_right: share of held-out rows in which every scored token was the likeliest.
    """

    step: int
    seconds: float
    progress: float
    training_loss: float
    held_out_loss: float
    held_out_right: float


def learning_rate(progress: float, peak: float) -> float:
    """Linear warmup, then a cosine (Loshchilov and Hutter 2017) down to a twentieth of the peak."""
    if progress < WARMUP_FRACTION:
        return peak * (progress + 1e-4) / WARMUP_FRACTION
    decay = min(1.0, (progress - WARMUP_FRACTION) / (1 - WARMUP_FRACTION))
    return peak * (FINAL_FRACTION + (1 - FINAL_FRACTION) * 0.5 * (1 + math.cos(math.pi * decay)))


def make_optimizer() -> optax.GradientTransformationExtraArgs:
    """AdamW (decay on matrices only) with clipped gradients; its learning rate is set before every step."""

    def clipped_adamw(learning_rate: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(learning_rate, b1=0.9, b2=0.98, weight_decay=0.05, mask=_decayed),
        )

    return optax.inject_hyperparams(clipped_adamw)(learning_rate=0.0)


def _decayed(params: PyTree[Array]) -> PyTree[bool]:
    return jax.tree_util.tree_map_with_path(lambda path, _: "norm" not in jax.tree_util.keystr(path), params)


OPTIMIZER = make_optimizer()


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def _update(
    graph: nnx.GraphDef[Decoder],
    params: PyTree[Array],
    state: PyTree[Array],
    rate: Float[Array, ""],
    tokens: Int[Array, "rows context_plus_1"],
    scored: Bool[Array, "rows context"],
) -> tuple[PyTree[Array], PyTree[Array], Float[Array, ""]]:
    """One optimizer step: new parameters, new optimizer state, and the loss before it."""

    def loss_of(params: PyTree[Array]) -> Array:
        return mean_nll(nnx.merge(graph, params), tokens, scored)

    loss, gradients = jax.value_and_grad(loss_of)(params)
    state.hyperparams["learning_rate"] = rate
    updates, state = OPTIMIZER.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss


class Trainer:
    """One model on its way: parameters, the optimizer's state, and how far they have come."""

    def __init__(self, recipe: Recipe, task: Task, *, seed: int = 0) -> None:
        self._recipe = recipe
        self._task = task
        self._seed = seed
        decoder = Decoder(recipe.config, dtype=jnp.float32, rngs=nnx.Rngs(seed))
        self._graph, self._params = nnx.split(decoder)
        self._optimizer_state = OPTIMIZER.init(self._params)
        self.step = 0
        self.seconds = 0.0

    @property
    def decoder(self) -> Decoder:
        """The model as it stands."""
        return nnx.merge(self._graph, self._params)

    def run(self, minutes: float | None = None) -> Iterator[Report]:
        """Train to the end of the recipe, or until `minutes` are over (all runs together); report every few steps."""
        losses: list[Array] = []
        started = time.monotonic() - self.seconds
        progress = self._progress(minutes)
        while progress < 1:
            rate = learning_rate(progress, self._recipe.learning_rate)
            batch = self._task.training_batch(self._recipe.rows, np.random.default_rng([self._seed, self.step]))
            self._params, self._optimizer_state, loss = _update(
                self._graph,
                self._params,
                self._optimizer_state,
                jnp.float32(rate),
                jnp.asarray(batch.tokens),
                jnp.asarray(batch.scored),
            )
            losses.append(loss.block_until_ready())
            self.step += 1
            self.seconds = time.monotonic() - started
            progress = self._progress(minutes)
            if len(losses) == REPORT_EVERY or progress >= 1:
                yield self._report(progress, float(np.mean(losses)))
                losses = []

    def _progress(self, minutes: float | None) -> float:
        time_spent = self.seconds / (60 * minutes) if minutes is not None else 0.0
        return min(1.0, max(self.step / self._recipe.steps, time_spent))

    def _report(self, progress: float, training_loss: float) -> Report:
        batch = self._task.held_out_batch()
        scores = score_jit(self.decoder, jnp.asarray(batch.tokens), jnp.asarray(batch.scored))
        return Report(
            step=self.step,
            seconds=self.seconds,
            progress=progress,
            training_loss=training_loss,
            held_out_loss=float(scores.nll.sum() / batch.scored.sum()),
            held_out_right=float(scores.right.all(axis=1).mean()),
        )

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs."""
        ocp.save(path, self._saved(), overwrite=True)

    def resume(self, path: Path) -> None:
        """Go on from where `save` was called."""
        saved = ocp.load(path, self._saved())
        self._params, self._optimizer_state = saved["params"], saved["optimizer"]
        self.step, self.seconds = int(saved["step"]), float(saved["seconds"])

    def _saved(self) -> dict[str, PyTree]:
        return {
            "params": self._params,
            "optimizer": self._optimizer_state,
            "step": np.asarray(self.step),
            "seconds": np.asarray(self.seconds),
        }
