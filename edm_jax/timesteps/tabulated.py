"""Grids out of tables of levels: of discrete training, and published ones."""

from typing import Literal

import numpy as np

from edm_jax import tables
from edm_jax.checks import check_range
from edm_jax.timesteps.spacing import Final, count_levels, with_end


def iddpm(
    num_steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 81.0,
    num_train_steps: int = 1000,
    c_1: float = 0.001,
    c_2: float = 0.008,
    final: Final = "zero",
) -> np.ndarray:
    """The grid of iDDPM in EDM: a subset of the cosine table, evenly spread over its indices.

    Of the table u_j (`tables.iddpm`, the sampler's variant) those in [sigma_min, sigma_max] are
    kept, K of them, and step i takes the one at round(i (K-1)/(N-1)), halves to even (Karras et
    al. 2022, table 1; the default range keeps j >= 8).

    Args:
      num_steps: The number of steps N; at most K.
      sigma_min: The lowest level kept; the last positive level is the lowest u_j above it.
      sigma_max: The highest level kept.
      num_train_steps: M, the number of levels of the table.
      c_1: The least ratio of successive alpha-bar.
      c_2: The offset of the cosine.
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range, or no level in the range.
    """
    check_range(sigma_min, sigma_max)
    u = tables.iddpm(num_train_steps, c_1=c_1, c_2=c_2, variant="sampler")
    kept = u[(u >= sigma_min) & (u <= sigma_max)]
    count, end = count_levels(num_steps, final)
    if count > len(kept):
        raise ValueError(
            f"num_steps = {num_steps} needs {count} levels, but the table holds {len(kept)} "
            f"between sigma_min = {sigma_min} and sigma_max = {sigma_max}"
        )
    # In this order of operations: the rounding error decides the ties.
    index = np.rint(((len(kept) - 1) / max(count - 1, 1)) * np.arange(count)).astype(int)
    return with_end(kept[index], end)


def ddpm(
    num_steps: int,
    *,
    betas: tables.Betas = "linear",
    num_train_steps: int = 1000,
    spacing: tables.Spacing = "trailing",
    offset: int = 0,
    final: Final = "zero",
) -> np.ndarray:
    """A grid out of a DDPM's table of noise levels, for any number of steps (Ho et al. 2020).

    Args:
      num_steps: The number of steps, at most num_train_steps.
      betas: "linear", "scaled_linear" or "cosine" (`tables.alphas_cumprod`).
      num_train_steps: T, the number of levels of the table.
      spacing: "trailing", "leading", "linspace", "quadratic" or "truncated"
        (`tables.indices`).
      offset: Added to the indices of "leading".
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range, an unknown betas or spacing.

    >>> ddpm(4).round(3)
    array([157.407,  17.247,   3.424,   0.953,   0.   ])
    """
    count_levels(num_steps, final)
    alphas_cumprod = tables.alphas_cumprod(betas, num_train_steps=num_train_steps)
    return from_alphas_cumprod(
        alphas_cumprod, num_steps, spacing=spacing, offset=offset, final=final
    )


def from_alphas_cumprod(
    alphas_cumprod: np.ndarray,
    num_steps: int | None = None,
    *,
    spacing: tables.Spacing = "trailing",
    offset: int = 0,
    final: Final = "zero",
) -> np.ndarray:
    """A grid out of any table of alpha-bar: sigma_k = sqrt((1 - abar_k) / abar_k).

    Args:
      alphas_cumprod: [T] in (0, 1], descending: alpha-bar of training step k = 0 .. T-1.
      num_steps: The number of steps; None takes every level.
      spacing: "trailing", "leading", "linspace", "quadratic" or "truncated"
        (`tables.indices`).
      offset: Added to the indices of "leading".
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: no such table, an argument out of range.
    """
    sigmas = tables.sigmas(alphas_cumprod)
    if num_steps is None:
        num_steps = len(sigmas) - (final == "sigma_min")
    count, end = count_levels(num_steps, final)
    return with_end(sigmas[tables.indices(count, len(sigmas), spacing=spacing, offset=offset)], end)


def align_your_steps(
    num_steps: int,
    *,
    model: Literal["sd15", "sdxl", "deepfloyd", "svd"] = "sd15",
    final: Final = "zero",
) -> np.ndarray:
    """The published optimised grids, interpolated linearly in log sigma for other step counts.

    Sabour, Fidler and Kreis 2024, "Align Your Steps".

    Args:
      num_steps: The number of steps; the published grids have ten.
      model: A key of `tables.ALIGN_YOUR_STEPS`.
      final: "zero" replaces the grid's last level by 0; "sigma_min" keeps it.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: unknown model, or an argument out of range.
    """
    if model not in tables.ALIGN_YOUR_STEPS:
        raise ValueError(f"model must be one of {sorted(tables.ALIGN_YOUR_STEPS)}, got {model!r}")
    count_levels(num_steps, final)
    levels = np.log(tables.ALIGN_YOUR_STEPS[model])
    at = np.linspace(0.0, len(levels) - 1.0, num_steps + 1)
    sigmas = np.exp(np.interp(at, np.arange(len(levels)), levels))
    if final == "zero":
        sigmas[-1] = 0.0
    return sigmas
