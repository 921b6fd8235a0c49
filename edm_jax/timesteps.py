"""Grids of noise levels: where a sampler evaluates the denoiser.

Every grid is numpy float64, [num_steps + 1], descending; num_steps is the number of steps. With
`final="zero"` (the default) the last level is 0 and `sigma_min` is the one before it; with
`final="sigma_min"` all the steps are spent between `sigma_max` and `sigma_min`. A single step
goes from `sigma_max` to the end at once. Tables of `num_train_steps` levels live in `tables.py`.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from edm_jax import schedules, tables
from edm_jax.checks import check_positive, check_range
from edm_jax.options import Option, check_options, find, options_of
from edm_jax.schedules import Schedule

Final = Literal["zero", "sigma_min"]


def edm(
    num_steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    final: Final = "zero",
) -> np.ndarray:
    """The grid of EDM: uniform in sigma^(1/rho) (Karras et al. 2022, eq. 5).

        sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho

    Args:
      num_steps: N, the number of steps.
      sigma_min: The last positive noise level.
      sigma_max: The first noise level.
      rho: How much the steps shrink towards sigma_min; 1 is uniform in sigma.
      final: "zero" or "sigma_min", the level that the last step reaches.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.

    >>> edm(3).round(4)
    array([8.0000e+01, 2.5152e+00, 2.0000e-03, 0.0000e+00])
    """
    check_positive(rho=rho)
    return _grid(
        lambda sigma: sigma ** (1.0 / rho), lambda u: u**rho, num_steps, sigma_min, sigma_max, final
    )


def vp(
    num_steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    beta_d: float = 19.9,
    beta_min: float = 0.1,
    epsilon_s: float = 1e-3,
    final: Final = "zero",
) -> np.ndarray:
    """The grid of the VP process: uniform in t from 1 to epsilon_s (Karras et al. 2022, table 1).

    The betas are refit to the range (`schedules.vp_betas`), so that the grid ends at `sigma_min`.

    Args:
      num_steps: The number of steps.
      sigma_min: The last positive noise level; None is sigma(epsilon_s) of the betas given.
      sigma_max: The first noise level; None is sigma(1) of the betas given.
      beta_d: The slope of beta(t), for the default range.
      beta_min: beta(0), for the default range.
      epsilon_s: The last positive time.
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.
    """
    default = _vp_range(beta_d=beta_d, beta_min=beta_min, epsilon_s=epsilon_s)
    low = default[0] if sigma_min is None else sigma_min
    high = default[1] if sigma_max is None else sigma_max
    refit = schedules.vp_from_range(low, high, epsilon_s=epsilon_s)
    count, end = _count(num_steps, final)
    return _end(refit.sigma(1.0 + _fractions(count) * (epsilon_s - 1.0)), end)


def _vp_range(
    beta_d: float = 19.9, beta_min: float = 0.1, epsilon_s: float = 1e-3
) -> tuple[float, float]:
    sigma = schedules.vp(beta_d=beta_d, beta_min=beta_min).sigma
    return float(sigma(epsilon_s)), float(sigma(1.0))


def ve(
    num_steps: int, *, sigma_min: float = 0.02, sigma_max: float = 100.0, final: Final = "zero"
) -> np.ndarray:
    """The grid of the VE process: geometric in sigma^2 (Karras et al. 2022, table 1).

        sigma_i^2 = sigma_max^2 (sigma_min^2 / sigma_max^2)^(i/(N-1))

    As a set of levels it is `exponential`; only the default range differs.

    Args:
      num_steps: N, the number of steps.
      sigma_min: The last positive noise level.
      sigma_max: The first noise level.
      final: "zero" or "sigma_min", the level that the last step reaches.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.
    """
    return exponential(num_steps, sigma_min=sigma_min, sigma_max=sigma_max, final=final)


def exponential(
    num_steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, final: Final = "zero"
) -> np.ndarray:
    """The geometric grid: uniform in log sigma.

    Args:
      num_steps: The number of steps.
      sigma_min: The last positive noise level.
      sigma_max: The first noise level.
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.

    >>> exponential(2, sigma_min=0.1, sigma_max=10.0, final="sigma_min").round(6)
    array([10. ,  1. ,  0.1])
    """
    return _grid(np.log, np.exp, num_steps, sigma_min, sigma_max, final)


def polyexponential(
    num_steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 1.0,
    final: Final = "zero",
) -> np.ndarray:
    """Polynomial of degree rho in log sigma; rho = 1 is `exponential` (k-diffusion).

        log sigma_i = log sigma_min + (1 - i/(N-1))^rho (log sigma_max - log sigma_min)

    Args:
      num_steps: N, the number of steps.
      sigma_min: The last positive noise level.
      sigma_max: The first noise level.
      rho: The degree; 1 is uniform in log sigma.
      final: "zero" or "sigma_min", the level that the last step reaches.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.
    """
    check_positive(rho=rho)
    check_range(sigma_min, sigma_max)
    count, end = _count(num_steps, final)
    ramp = (1.0 - _fractions(count)) ** rho
    return _end(sigma_min * np.exp(ramp * np.log(sigma_max / sigma_min)), end)


def tangent(
    num_steps: int,
    *,
    sigma_min: float = 0.0,
    sigma_max: float = 80.0,
    sigma_data: float = 0.5,
    final: Final = "zero",
) -> np.ndarray:
    """Uniform in the angle theta = atan(sigma / sigma_data), TrigFlow's time.

    For Gaussian data of standard deviation sigma_data no grid is better for Euler steps, whose
    output then is cos(Theta/N)^N of the true deviation, Theta the whole angle. For images the
    best sigma_data is far above the pixels' (large structures carry the variance).

    Args:
      num_steps: N, the number of steps.
      sigma_min: The last positive noise level; at 0 the steps are uniform down to zero.
      sigma_max: The first noise level.
      sigma_data: The scale of the angle, positive.
      final: "zero" or "sigma_min", the level that the last step reaches.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.
    """
    check_positive(sigma_data=sigma_data)
    if sigma_min == 0.0:
        check_positive(sigma_max=sigma_max)
        angle = np.arctan(sigma_max / sigma_data)
        return from_schedule(
            num_steps,
            schedules.trigflow(sigma_data=sigma_data),
            t_max=angle,
            t_min=0.0,
            final=final,
        )
    to = lambda sigma: np.arctan(sigma / sigma_data)
    return _grid(to, lambda u: sigma_data * np.tan(u), num_steps, sigma_min, sigma_max, final)


def from_schedule(
    num_steps: int,
    schedule: Schedule,
    *,
    t_max: float = 1.0,
    t_min: float = 1e-3,
    power: float = 1.0,
    final: Final = "zero",
) -> np.ndarray:
    """The grid of any process: uniform in t, or in t^(1/power).

        t_i = (t_max^(1/power) + i/(N-1) (t_min^(1/power) - t_max^(1/power)))^power

    Args:
      num_steps: The number of steps.
      schedule: sigma(t), increasing.
      t_max: The first time, with sigma(t_max) finite.
      t_min: The last time. With sigma(t_min) = 0 it is the end itself.
      power: 1 is uniform in t; 2 is the quadratic spacing of DDIM and DEIS.
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range, or times where sigma does not decrease to t_min.

    >>> from_schedule(2, schedules.ve_geometric(sigma_max=1.0), t_min=0.0).round(3)
    array([1.  , 0.01, 0.  ])
    """
    check_positive(power=power, t_max=t_max)
    if not 0.0 <= t_min < t_max:
        raise ValueError(f"t_min must lie in [0, t_max = {t_max}), got {t_min}")
    count, end = _count(num_steps, final)
    if end and schedule.sigma(t_min) == 0.0:
        count, end = count + 1, False
    first, last = t_max ** (1.0 / power), t_min ** (1.0 / power)
    sigmas = schedule.sigma((first + _fractions(count) * (last - first)) ** power)
    if not (np.isfinite(sigmas).all() and (np.diff(sigmas) < 0.0).all() and sigmas[-1] >= 0.0):
        raise ValueError(f"t_max = {t_max}, t_min = {t_min} give no finite descending levels")
    return _end(sigmas, end)


def flow(
    num_steps: int,
    *,
    t_max: float = 0.999,
    t_min: float = 0.0,
    factor: float = 1.0,
    final: Final = "zero",
) -> np.ndarray:
    """The grid of rectified flow: uniform in t from t_max to t_min, sigma = factor t / (1 - t).

    At t = 1 x is pure noise and sigma infinite, so the grid starts just below. `factor` is the
    resolution shift of Stable Diffusion 3: t' = factor t / (1 + (factor - 1) t) is exactly
    sigma' = factor sigma (Esser et al. 2024, eq. 23).

    Args:
      num_steps: The number of steps.
      t_max: The first time, in (0, 1).
      t_min: The last time. At 0, where sigma is 0, it is the end itself.
      factor: The shift, positive.
      final: "zero" or "sigma_min", the level of t_min.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.
    """
    if not 0.0 < t_max < 1.0:
        raise ValueError(f"t_max must lie in (0, 1), got {t_max}")
    levels = from_schedule(num_steps, schedules.flow(), t_max=t_max, t_min=t_min, final=final)
    return shift(levels, factor)


def shift(sigmas: np.ndarray, factor: float) -> np.ndarray:
    """Shifts a grid to another resolution: sigma' = factor sigma.

    In flow matching's time this is t' = factor t / (1 + (factor - 1) t). For an image enlarged by
    m on each side, factor = m keeps the signal-to-noise ratio of its large structures.

    Args:
      sigmas: [N] noise levels.
      factor: Positive.

    Returns:
      [N] noise levels.

    Raises:
      ValueError: factor <= 0.
    """
    check_positive(factor=factor)
    return factor * np.asarray(sigmas, dtype=np.float64)


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
    count, end = _count(num_steps, final)
    if count > len(kept):
        raise ValueError(
            f"num_steps = {num_steps} needs {count} levels, but the table holds {len(kept)} "
            f"between sigma_min = {sigma_min} and sigma_max = {sigma_max}"
        )
    # In this order of operations: the rounding error decides the ties.
    index = np.rint(((len(kept) - 1) / max(count - 1, 1)) * np.arange(count)).astype(int)
    return _end(kept[index], end)


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
      spacing: "trailing", "leading", "linspace" or "quadratic" (`tables.indices`).
      offset: Added to the indices of "leading".
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range, an unknown betas or spacing.

    >>> ddpm(4).round(3)
    array([157.407,  17.247,   3.424,   0.953,   0.   ])
    """
    _count(num_steps, final)
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
      spacing: "trailing", "leading", "linspace" or "quadratic" (`tables.indices`).
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
    count, end = _count(num_steps, final)
    return _end(sigmas[tables.indices(count, len(sigmas), spacing=spacing, offset=offset)], end)


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
    _count(num_steps, final)
    levels = np.log(tables.ALIGN_YOUR_STEPS[model])
    at = np.linspace(0.0, len(levels) - 1.0, num_steps + 1)
    sigmas = np.exp(np.interp(at, np.arange(len(levels)), levels))
    if final == "zero":
        sigmas[-1] = 0.0
    return sigmas


class Grid(NamedTuple):
    """A grid of the registry.

    Attributes:
      make: (num_steps, **options) -> noise levels.
      own_range: (**options) -> (sigma_min, sigma_max), where they follow from other options; else
        they are the defaults of `make`.
    """

    make: Callable[..., np.ndarray]
    own_range: Callable[..., tuple[float, float]] | None = None

    @property
    def options(self) -> dict[str, Option]:
        """What `make` takes beside the number of steps."""
        return options_of(self.make)


# What the command line and the documentation choose from.
GRIDS: dict[str, Grid] = {
    "edm": Grid(edm),
    "vp": Grid(vp, _vp_range),
    "ve": Grid(ve),
    "iddpm": Grid(iddpm),
    "ddpm": Grid(ddpm),
    "exponential": Grid(exponential),
    "polyexponential": Grid(polyexponential),
    "tangent": Grid(tangent),
    "flow": Grid(flow),
    "align_your_steps": Grid(align_your_steps),
}
RANGE = ("sigma_min", "sigma_max")


def build(
    name: str,
    num_steps: int,
    *,
    bounds: tuple[float, float] = (0.0, math.inf),
    **options: Any,
) -> np.ndarray:
    """Builds a grid of the registry by its name.

    >>> build("ve", 2, bounds=(0.03, 50.0)).round(6).tolist()
    [50.0, 0.03, 0.0]

    Args:
      name: A key of `GRIDS`.
      num_steps: The number of steps.
      bounds: (sigma_min, sigma_max) of a network: a grid that has these options stays inside.
      **options: What the grid takes beside the number of steps; a sigma_min or sigma_max of None
        is the grid's own.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an unknown name, with the nearest one; an option that the grid does not have; a
        grid of given levels with some outside of `bounds`; what the grid says of its options.
    """
    grid = find("grid", name, GRIDS)
    ends = noise_range(name, bounds=bounds, **options)
    if ends is not None:
        return grid.make(num_steps, **options | dict(zip(RANGE, ends)))
    levels, (low, high) = grid.make(num_steps, **options), bounds
    # A millionth to spare: a network's bounds may be the same numbers in float32.
    inside = (levels >= low * (1 - 1e-6)) & (levels <= high * (1 + 1e-6))
    if not inside[levels > 0].all():
        outside = ", ".join(f"{level:.6g}" for level in levels[(levels > 0) & ~inside])
        raise ValueError(
            f"the levels of the grid {name!r} must lie in [{low:.6g}, {high:.6g}], where the "
            f"network was trained, got {outside}"
        )
    return levels


def noise_range(
    name: str, *, bounds: tuple[float, float] = (0.0, math.inf), **options: Any
) -> tuple[float, float] | None:
    """(sigma_min, sigma_max) between which `build` makes its grid.

    >>> noise_range("edm", bounds=(0.02, 100.0))
    (0.02, 80.0)

    Args:
      name: A key of `GRIDS`.
      bounds: (sigma_min, sigma_max) of a network.
      **options: What the grid takes beside the number of steps.

    Returns:
      What is asked for, or else the grid's own, narrowed to the bounds; None for a grid whose
      levels are given.

    Raises:
      ValueError: an unknown name, or an option that the grid does not have.
    """
    grid = find("grid", name, GRIDS)
    known = grid.options
    check_options(f"the grid {name!r}", known, options)
    if not set(RANGE) <= set(known):
        return None
    if grid.own_range is None:
        own = tuple(known[end].default for end in RANGE)
    else:
        taken = inspect.signature(grid.own_range).parameters
        own = grid.own_range(**{key: value for key, value in options.items() if key in taken})
    low, high = (
        default if options.get(end) is None else options[end] for end, default in zip(RANGE, own)
    )
    return max(low, bounds[0]), min(high, bounds[1])


def rounded(
    sigmas: np.ndarray, round_sigma: Callable | None, *, keep_repeated: bool = False
) -> np.ndarray:
    """Rounds a grid to the levels that a network knows.

    >>> rounded(np.array([8.1, 1.2, 0.9, 0.0]), np.round).tolist()
    [8.0, 1.0, 0.0]

    Args:
      sigmas: [N + 1] descending noise levels, the last may be 0, which stays.
      round_sigma: Levels -> the nearest known ones; None leaves the grid as it is.
      keep_repeated: Keep levels that become equal, as steps of length 0 (`samplers.heun` and
        `euler` take them); else one of them stays, and the grid has fewer steps.

    Returns:
      Descending noise levels, at most [N + 1].
    """
    if round_sigma is None:
        return sigmas
    levels = np.where(sigmas > 0, np.asarray(round_sigma(sigmas), np.float64), 0.0)
    if keep_repeated:
        return levels
    return levels[np.append(True, np.diff(levels) != 0)]


def _grid(to, back, num_steps, sigma_min, sigma_max, final) -> np.ndarray:
    """Levels uniform in to(sigma), from sigma_max to sigma_min."""
    check_range(sigma_min, sigma_max)
    count, end = _count(num_steps, final)
    first, last = to(np.float64(sigma_max)), to(np.float64(sigma_min))
    return _end(back(first + _fractions(count) * (last - first)), end)


def _count(num_steps: int, final: str) -> tuple[int, bool]:
    """The number of positive levels, and whether a zero follows them."""
    if not (isinstance(num_steps, (int, np.integer)) and num_steps >= 1):
        raise ValueError(f"num_steps must be a positive integer, got {num_steps!r}")
    if final not in ("zero", "sigma_min"):
        raise ValueError(f"final must be 'zero' or 'sigma_min', got {final!r}")
    return num_steps + (final == "sigma_min"), final == "zero"


def _fractions(count: int) -> np.ndarray:
    """i / (count - 1), and 0 for a single level: one step starts at sigma_max."""
    return np.arange(count) / max(count - 1, 1)


def _end(sigmas: np.ndarray, zero: bool) -> np.ndarray:
    return np.append(sigmas, 0.0) if zero else sigmas
