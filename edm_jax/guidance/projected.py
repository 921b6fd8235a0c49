"""Adaptive projected guidance: the part of guidance that does not saturate."""

from typing import Literal

import jax.numpy as jnp

from edm_jax import checks
from edm_jax.checks import Denoiser, Remembering, inner
from edm_jax.guidance.pairs import Interval, check_images, check_interval, paired
from edm_jax.guidance.scales import Scale, at, check_scale


def adaptive_projected(
    cond: Denoiser,
    uncond: Denoiser,
    scale: Scale,
    *,
    eta: float = 0.0,
    norm_threshold: float = 0.0,
    momentum: float = 0.0,
    base: Literal["cond", "uncond"] = "cond",
    interval: Interval | None = None,
) -> Denoiser | Remembering:
    """Adaptive projected guidance, APG (Sadat, Hilliges, Weber 2024).

        M = Delta + momentum M_before,   Delta = D_c - D_u
        M <- M min(1, norm_threshold / |M|)
        P = M - <M, e> e + eta <M, e> e,   e = D_c / |D_c|
        D = D_c + (w - 1) P,    or D_u + w P for base "uncond"

    The part of the guidance along D_c makes images saturated; eta = 0 leaves it out. With eta = 1,
    no cap and no momentum, this is `classifier_free`. The paper's settings: norm_threshold 2.5 and
    momentum -0.75 for EDM2-S, 15 and -0.5 for SDXL.

    Args:
      cond: the conditional denoiser, D_c.
      uncond: the unconditional one, D_u; both from `in_one_call` to ask them together.
      scale: w: a number, [B] numbers, or a function of sigma to either.
      eta: how much of the part along D_c is kept.
      norm_threshold: the greatest norm of a sample's guidance; 0 is no limit.
      momentum: how much of the last call's M is added; the paper's is negative.
      base: what P is added to: "cond" as in the paper, "uncond" as in diffusers.
      interval: (low, high): guide where low < sigma <= high alone. None guides everywhere.

    Returns:
      The guided denoiser. With momentum it remembers its last call, so it is a `Remembering`,
      which `sample` runs with tableaux.

    Raises:
      ValueError: a scale, a threshold or an interval that is not allowed.
    """
    scale = check_scale(scale)
    checks.between("norm_threshold", norm_threshold, 0.0)
    checks.between("eta", eta, float("-inf"))
    checks.between("momentum", momentum, -1.0, 1.0)
    checks.one_of("base", base, ("cond", "uncond"))

    def result(x, sigma, main, guide, moved):
        size = inner(moved, moved) ** 0.5
        if norm_threshold > 0.0:
            moved = moved * jnp.minimum(1.0, norm_threshold / jnp.maximum(size, 1e-30))
        along = inner(moved, main) / jnp.maximum(inner(main, main), 1e-30) * main
        projected = moved - along + eta * along
        w = at(scale, sigma, x)
        return main + (w - 1.0) * projected if base == "cond" else guide + w * projected

    if momentum == 0.0:
        combine = lambda x, sigma, main, guide: result(x, sigma, main, guide, main - guide)
        return paired(cond, uncond, combine, interval)
    if interval is not None:
        check_interval(interval)
        raise ValueError(
            "interval must be left out with momentum, which counts every call, got both"
        )

    def denoise(x, sigma, before):
        main, guide = cond(x, sigma), uncond(x, sigma)
        check_images(x, cond=main, uncond=guide)
        moved = main - guide + momentum * before
        return result(x, sigma, main, guide, moved), moved

    return Remembering(jnp.zeros_like, denoise)
