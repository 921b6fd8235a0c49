"""Adam as EDM runs it, and RAdam: finite gradients, and a learning rate that ramps up in images."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Optimizer(NamedTuple):
    """An optax transformation, and what a network asks of it.

    Attributes:
      init: tree -> optax's state.
      update: (gradients, state, tree) -> (updates, state).
      project: params -> params, where a step begins: the gradient is taken there, and the update
        goes from there (EDM2's forced weight normalisation). The identity by default.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]
    project: Callable[[Any], Any] = lambda params: params


def learning_rate(
    peak: float, rampup_images: float, batch_size: int, *, decay_steps: float = 0.0
) -> optax.Schedule:
    """`peak * min(images / rampup_images, 1)`, with images counted before the step.

    With `decay_steps` it is divided by `sqrt(max(step / decay_steps, 1))` (Karras et al. 2024,
    EDM2, eq. 67).

    The count of images stays in float32: int32 overflows at 2^31 images, which ImageNet-64 passes.

    Args:
      peak: the learning rate after the ramp.
      rampup_images: length of the ramp in images; 0 starts at `peak`.
      batch_size: global images per step.
      decay_steps: steps before it falls; 0 is for ever.

    Returns:
      A schedule, step -> learning rate; 0 at step 0 when there is a ramp.
    """

    def schedule(step):
        step = jnp.asarray(step, jnp.float32)
        rate = jnp.asarray(peak, jnp.float32)
        if rampup_images > 0:
            rate *= jnp.minimum(step * (batch_size / rampup_images), 1.0)
        if decay_steps > 0:
            rate *= jax.lax.rsqrt(jnp.maximum(step / decay_steps, 1.0))
        return rate

    return schedule


def replace_nonfinite(infinite: float = 1e5) -> optax.GradientTransformation:
    """Gradients with NaN as 0 and infinities as ±`infinite` (EDM trains with 1e5, EDM2 with 0)."""

    def replace(updates, params):
        del params
        return jax.tree.map(
            lambda g: jnp.nan_to_num(g, nan=0.0, posinf=infinite, neginf=-infinite), updates
        )

    return optax.stateless(replace)


def adam(
    schedule: optax.Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    clip: float = 0.0,
    weight_decay: float = 0.0,
    infinite: float = 1e5,
    rectified: bool = False,
) -> Optimizer:
    """Adam with non-finite gradients replaced (Karras et al. 2022, Table 7: no weight decay).

    Args:
      schedule: step -> learning rate.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      clip: the largest global norm of the gradient; 0 is any, as in the paper.
      weight_decay: of all parameters, this times the learning rate in a step, apart from the
        moments (AdamW, Loshchilov and Hutter 2019); 0 is none, as in the paper.
      infinite: what an infinite gradient becomes, with its sign.
      rectified: RAdam (Liu et al. 2020): while the second moment is known from too few gradients,
        it takes small steps or does without, and needs no ramp of the learning rate.

    Returns:
      The optimizer, which projects nothing; `_replace(project=...)` for a network that asks.
    """
    # PyTorch's RAdam begins to divide by the second moment at 5, too.
    scale = (
        functools.partial(optax.scale_by_radam, threshold=5.0) if rectified else optax.scale_by_adam
    )
    chain = optax.chain(
        replace_nonfinite(infinite),
        *([optax.clip_by_global_norm(clip)] if clip else []),
        scale(b1=b1, b2=b2, eps=eps),
        *([optax.add_decayed_weights(weight_decay)] if weight_decay else []),
        optax.scale_by_learning_rate(schedule),
    )
    return Optimizer(chain.init, chain.update)
