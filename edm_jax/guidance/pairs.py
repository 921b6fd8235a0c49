"""Guidance by two denoisers: D_w = D_guide + w (D_main - D_guide), and its relatives."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks
from edm_jax.checks import Denoiser, column, inner
from edm_jax.guidance.scales import Scale, at, check_scale

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Half:
    """A denoiser that can be asked together with another, in one call of twice the batch.

    Attributes:
      alone: the denoiser by itself.
      both: (x, sigma) -> (D of the first, D of the second). The two halves have the same one.
    """

    alone: Denoiser
    both: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]

    def __call__(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        return self.alone(x, sigma)


def in_one_call(denoiser: Callable[[Any], Denoiser], cond: Any, uncond: Any) -> tuple[Half, Half]:
    """Two denoisers of one network that guidance asks in one call of twice the batch.

    The numbers are those of two calls. One call fills an accelerator better where the batch is
    small, and takes the memory of twice the batch.

    >>> cond, uncond = in_one_call(model.denoiser, labels, no_labels)    # doctest: +SKIP
    >>> guided = classifier_free(cond, uncond, 2.0)                      # doctest: +SKIP

    Args:
      denoiser: conditions -> denoiser, such as `model.denoiser`.
      cond: the conditions of the first, a tree of [B, ...].
      uncond: those of the second, of the same structure and shapes.

    Returns:
      The two denoisers.

    Raises:
      ValueError: conditions of different structure or shapes.
    """
    shapes = [jax.tree.map(np.shape, tree) for tree in (cond, uncond)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"uncond must have the shapes of cond, {shapes[0]}, got {shapes[1]}")
    together = denoiser(jax.tree.map(lambda c, u: jnp.concatenate([c, u]), cond, uncond))

    def both(x, sigma):
        sigma = jnp.asarray(sigma)
        twice = jnp.concatenate([sigma, sigma]) if sigma.ndim else sigma
        first, second = jnp.split(together(jnp.concatenate([x, x]), twice), 2)
        return first, second

    return Half(denoiser(cond), both), Half(denoiser(uncond), both)


def classifier_free(
    cond: Denoiser,
    uncond: Denoiser,
    scale: Scale,
    *,
    interval: Interval | None = None,
    rescale: float = 0.0,
    rescale_on: Literal["denoised", "epsilon"] = "denoised",
    convention: Literal["linear", "ho_salimans"] = "linear",
) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2022).

        D_w = D_u + w (D_c - D_u)

    w = 1 is no guidance and w = 0 is the unconditional denoiser: the scale of EDM2, k-diffusion,
    diffusers and generative-models. Ho and Salimans count from there: their w is ours minus 1.
    The rule is the same on D, epsilon, v and the score. Costs a second network call.

    >>> guided = classifier_free(lambda x, s: x, lambda x, s: 0 * x, 3.0)
    >>> guided(jnp.ones((1, 1)), 1.0).tolist()
    [[3.0]]

    Args:
      cond: the conditional denoiser, D_c.
      uncond: the unconditional one, D_u; both from `in_one_call` to ask them together.
      scale: w: a number, [B] numbers, or a function of sigma to either.
      interval: (low, high): guide where low < sigma <= high, and elsewhere take D_c without a call
        of the other (Kynkaanniemi et al. 2024). None guides everywhere.
      rescale: phi in [0, 1]: how much of the deviation of D_c is given back to D_w (Lin et al.
        2024, section 3.4), which keeps large scales from over-exposure.
      rescale_on: what the deviations are of, "denoised" or "epsilon": it is not the same.
      convention: "linear", or "ho_salimans" for a scale of theirs.

    Returns:
      The guided denoiser.

    Raises:
      ValueError: a scale that is not finite, an interval the wrong way round, phi out of range.
    """
    checks.one_of("convention", convention, ("linear", "ho_salimans"))
    checks.one_of("rescale_on", rescale_on, ("denoised", "epsilon"))
    checks.between("rescale", rescale, 0.0, 1.0)
    scale = check_scale(scale)
    extra = 1.0 if convention == "ho_salimans" else 0.0

    def combine(x, sigma, main, guide):
        guided = guide + (at(scale, sigma, x) + extra) * (main - guide)
        if rescale == 0.0:
            return guided
        if rescale_on == "denoised":
            return _rescaled(guided, main, rescale)
        # The deviation of x - D, whose common factor 1 / sigma cancels.
        return x - _rescaled(x - guided, x - main, rescale)

    return paired(cond, uncond, combine, interval)


def autoguidance(
    main: Denoiser, guide: Denoiser, scale: Scale, *, interval: Interval | None = None
) -> Denoiser:
    """Guidance by a worse version of the model itself (Karras et al. 2024).

        D_w = D_guide + w (D_main - D_guide)

    The guide is smaller, or less trained, and has the same conditions: what is amplified is how the
    model is better, not the class, so diversity stays. Costs a call of the guide.

    Args:
      main: the denoiser to guide.
      guide: the worse one.
      scale: w: a number, [B] numbers, or a function of sigma to either; 1 is no guidance.
      interval: (low, high): guide where low < sigma <= high alone. None guides everywhere.

    Returns:
      The guided denoiser.

    Raises:
      ValueError: a scale that is not finite, an interval the wrong way round.
    """
    return classifier_free(main, guide, scale, interval=interval)


def zero_star(
    cond: Denoiser, uncond: Denoiser, scale: Scale, *, interval: Interval | None = None
) -> Denoiser:
    """Classifier-free guidance with the unconditional part scaled to fit (CFG-Zero*, 2025).

        D_w = a D_u + w (D_c - a D_u),   a = <D_c, D_u> / (|D_u|^2 + 1e-8)   of each sample

    Args:
      cond: the conditional denoiser, D_c.
      uncond: the unconditional one, D_u.
      scale: w: a number, [B] numbers, or a function of sigma to either.
      interval: (low, high): guide where low < sigma <= high alone. None guides everywhere.

    Returns:
      The guided denoiser.

    Raises:
      ValueError: a scale that is not finite, an interval the wrong way round.
    """
    scale = check_scale(scale)

    def combine(x, sigma, main, guide):
        fit = inner(main, guide) / (inner(guide, guide) + 1e-8)
        return fit * guide + at(scale, sigma, x) * (main - fit * guide)

    return paired(cond, uncond, combine, interval)


def compose(conds: Sequence[Denoiser], uncond: Denoiser, scales: Sequence[Scale]) -> Denoiser:
    """Several conditions at once (composable diffusion, Liu et al. 2022).

        D = D_u + sum_i w_i (D_i - D_u)

    The product of experts p(x) prod_i (p(x | c_i) / p(x))^w_i, if its noised version were as
    simple. A negative scale moves away from a condition.

    Args:
      conds: the conditional denoisers, D_i.
      uncond: the unconditional one, D_u.
      scales: w_i, one for each: a number, [B] numbers, or a function of sigma to either.

    Returns:
      The guided denoiser; len(conds) + 1 network calls.

    Raises:
      ValueError: no conditions, not one scale for each, a scale that is not finite.
    """
    if not conds or len(conds) != len(scales):
        raise ValueError(
            f"scales must be one for each of conds, {len(conds)} and at least 1, got {len(scales)}"
        )
    scales = [check_scale(scale, name="scales") for scale in scales]

    def denoise(x, sigma):
        base, images = uncond(x, sigma), [cond(x, sigma) for cond in conds]
        for image in images:
            check_images(x, uncond=base, conds=image)
        return base + sum(
            at(scale, sigma, x) * (image - base) for image, scale in zip(images, scales)
        )

    return denoise


def paired(
    main: Denoiser,
    guide: Denoiser,
    combine: Callable[..., jax.Array],
    interval: Interval | None,
) -> Denoiser:
    """combine(x, sigma, D_main, D_guide) inside an interval of noise levels, D_main outside.

    Args:
      main: the denoiser that is guided.
      guide: the other; not called outside the interval where sigma is one level.
      combine: what to make of the two.
      interval: (low, high) for low < sigma <= high, or None.

    Returns:
      The guided denoiser.

    Raises:
      ValueError: an interval the wrong way round, or below 0.
    """
    together = isinstance(main, Half) and isinstance(guide, Half) and main.both is guide.both

    def guided(x, sigma):
        if together:
            first, second = main.both(x, sigma)  # type: ignore[attr-defined]
        else:
            first, second = main(x, sigma), guide(x, sigma)
        check_images(x, main=first, guide=second)
        return combine(x, sigma, first, second)

    if interval is None:
        return guided
    low, high = check_interval(interval)

    def of_both(x, sigma, first):
        second = guide(x, sigma)
        check_images(x, main=first, guide=second)
        return combine(x, sigma, first, second)

    def limited(x, sigma):
        sigma = jnp.asarray(sigma)
        inside = (low < sigma) & (sigma <= high)
        if sigma.ndim:  # each sample has its own level: all are asked for both
            first = main(x, sigma)
            return jnp.where(column(inside, x) > 0, of_both(x, sigma, first), first)
        if together:
            return jax.lax.cond(inside, guided, lambda x, s: main(x, s), x, sigma)
        first = main(x, sigma)
        return jax.lax.cond(inside, lambda: of_both(x, sigma, first), lambda: first)

    return limited


def check_images(x: jax.Array, **denoised: jax.Array) -> None:
    """Raises ValueError unless what denoisers return, by their names, has the shape of x."""
    for name, images in denoised.items():
        if jnp.shape(images) != x.shape:
            raise ValueError(
                f"{name} must return images of the shape of x, {x.shape}, got {jnp.shape(images)}"
            )


def check_interval(interval: Any) -> Interval:
    """(low, high) of noise levels with 0 <= low < high, or ValueError."""
    try:
        low, high = (float(level) for level in interval)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not 0.0 <= low < high:
        raise ValueError(f"interval must be (low, high) with 0 <= low < high, got {interval}")
    return low, high


def _rescaled(guided, main, phi):
    """phi guided std(main) / std(guided) + (1 - phi) guided, deviations of each sample."""
    axes = tuple(range(1, main.ndim))
    ratio = jnp.std(main, axes, keepdims=True) / jnp.std(guided, axes, keepdims=True)
    return guided * (phi * ratio + (1.0 - phi))
