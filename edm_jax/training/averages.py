"""Moving averages of the parameters: by half-life in images, and by a power of the time."""

import math
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


def decay(
    images: jax.Array, batch_size: int, halflife: float, rampup_ratio: float | None
) -> jax.Array:
    """One minus beta for a step: `beta = 0.5 ** (batch_size / min(halflife, ratio * images))`.

    The complement is returned because it keeps seven digits where beta itself keeps five.

    Args:
      images: [] images seen before this step.
      batch_size: images of this step.
      halflife: half-life of the average, in images.
      rampup_ratio: the half-life is at most this share of `images`; None turns the ramp off.

    Returns:
      [] float32, 1 - beta: 1 at the first step with a ramp, so that the average starts as a copy.
    """
    if rampup_ratio is not None:
        halflife = jnp.minimum(halflife, images * rampup_ratio)
    return -jnp.expm1(-jnp.log(2.0) * batch_size / jnp.maximum(halflife, 1e-8))


# [] int32 step, counted from 0 -> [] float32, 1 - beta of that step.
Share = Callable[[jax.Array], jax.Array]


class Averages(NamedTuple):
    """The moving averages that a run keeps.

    Attributes:
      main: what samples are drawn from.
      further: others by name, such as "halflife-250" and "power-0.050".
    """

    main: Share
    further: Mapping[str, Share] = types.MappingProxyType({})


def by_halflife(batch_size: int, halflife: float, *, rampup_ratio: float | None = 0.05) -> Share:
    """The average of a half-life, `decay` as a function of the step.

    Args:
      batch_size: images of a step.
      halflife: in images.
      rampup_ratio: the half-life is at most this share of the images seen; None turns that off.
    """

    def share(step):
        # In float32: int32 overflows at 2^31 images.
        return decay(step.astype(jnp.float32) * batch_size, batch_size, halflife, rampup_ratio)

    return share


def by_power(std: float) -> Share:
    """The average whose weights grow as t^e (Karras et al. 2024, EDM2, eq. 2 to 4).

        beta = (1 - 1 / t)^(e + 1),    t = step + 1

    Its width is a constant share of the training so far, and averages of two widths, kept on the
    way, give any other afterwards (`posthoc`).

    Args:
      std: the standard deviation of the weights over [0, t], as a share of t; (0, 0.2887).

    Raises:
      ValueError: no power has that deviation.

    >>> share = by_power(0.05)
    >>> float(share(jnp.int32(0)))
    1.0
    """
    power = exponent(std) + 1.0

    def share(step):
        t = step.astype(jnp.float32) + 1.0
        return -jnp.expm1(power * jnp.log1p(-1.0 / t))

    return share


def exponent(std: float) -> float:
    """The power of the time whose average has a relative standard deviation of `std`.

    The largest root of e^3 + 7 e^2 + (16 - std^-2) e + (12 - std^-2); uniform weights, e = 0, have
    the deviation 12^-1/2.

    Args:
      std: the standard deviation of the weights over [0, t], as a share of t.

    Raises:
      ValueError: std not in (0, 12^-1/2).

    >>> round(exponent(0.05), 2), round(exponent(0.10), 2)
    (16.97, 6.94)
    """
    if not 0.0 < std < 12**-0.5:
        raise ValueError(f"std must lie between 0 and 12^-1/2 = 0.2887, got {std}")
    roots = np.roots([1.0, 7.0, 16.0 - std**-2, 12.0 - std**-2])
    return float(np.max(roots.real))


def shares(
    batch_size: int,
    *,
    halflives_kimg: tuple[float, ...] = (),
    powers: tuple[float, ...] = (),
    rampup_ratio: float | None = None,
) -> dict[str, Share]:
    """The further averages of a run by name: "halflife-250", "power-0.050".

    Args:
      batch_size: images of a step.
      halflives_kimg: half-lives, in thousands of images.
      powers: relative widths of power-function averages.
      rampup_ratio: a half-life is at most this share of the images seen; None turns that off.

    Raises:
      ValueError: a half-life or a deviation out of range.
    """
    named: dict[str, Share] = {}
    for kimg in halflives_kimg:
        if not 0 < kimg < math.inf:
            raise ValueError(f"ema_more_kimg must hold positive finite half-lives, got {kimg}")
        named[f"halflife-{kimg:g}"] = by_halflife(batch_size, kimg * 1e3, rampup_ratio=rampup_ratio)
    for std in powers:
        named[power_name(std)] = by_power(round(std, 3))
    return named


def power_name(std: float) -> str:
    """What the average of a width is called: "power-0.050"."""
    return f"power-{std:.3f}"


def update(average: Any, params: Any, one_minus_beta: jax.Array) -> Any:
    """`average + (1 - beta) * (params - average)`, leaf by leaf."""
    return optax.incremental_update(params, average, one_minus_beta)
