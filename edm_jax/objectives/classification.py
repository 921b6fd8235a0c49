"""The objective of a classifier of noisy data: the cross-entropy of the labels, on every level."""

from typing import Any

import jax
import jax.numpy as jnp

from edm_jax.objectives.denoising import Examples, noise_like, perturbed
from edm_jax.objectives.levels import Levels
from edm_jax.objectives.record import Losses, Objective, State


def classification(levels: Levels) -> Objective:
    """The mean over noise levels, data and noise of -log p(c | y + sigma n; sigma).

    Dhariwal and Nichol 2021, section 4. The labels c are the condition `class_labels`, [b, L]
    one-hot rows, which the model is not told; a row of zeros, no label, teaches nothing.

    Args:
      levels: how noise levels are chosen.

    Returns:
      The objective, of a model with a `classifier`; its losses are in nats. Its `loss` raises
      ValueError for data without labels, or logits of other classes than theirs.
    """

    def init() -> State:
        return State(kept=levels.init())

    def draw(state: State, keys: jax.Array, y: Any, conditions: dict[str, Any]) -> Examples:
        sigma, level, factor = levels.draw(state.kept, keys[:, 0])
        return Examples(y, sigma, noise_like(keys[:, 1], y), conditions, level, factor)

    def loss(model, state: State, e: Examples) -> Losses:
        told = dict(e.conditions)
        labels = told.pop("class_labels", None)
        if labels is None:
            raise ValueError("class_labels must be given to train a classifier, got none")
        x, sigma, _ = perturbed(e.y, e.sigma, e.noise)
        logits = model.classifier(**told)(x, sigma)
        if logits.shape != labels.shape:
            raise ValueError(
                f"the classifier's logits must have the shape of class_labels, {labels.shape}, "
                f"got {logits.shape}"
            )
        each = -jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1)
        counted = each if e.factor is None else each * e.factor
        return Losses(counted, counted, each, e.sigma)

    def update(state: State, e: Examples, losses: Losses, gather) -> State:
        return state._replace(kept=levels.update(state.kept, e.level, losses.each, gather))

    return Objective(init, draw, loss, update)
