"""Grids between two noise levels: uniform in a function of sigma."""

import numpy as np

from edm_jax.checks import check_positive, check_range
from edm_jax.timesteps.spacing import Final, between, count_levels, fractions, with_end


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
      sigma_min: The last positive noise level; may be 0 where `final` is "sigma_min".
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
    to, back = (lambda sigma: sigma ** (1.0 / rho)), (lambda u: u**rho)
    return between(to, back, num_steps, sigma_min, sigma_max, final, from_zero=True)


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
    return between(np.log, np.exp, num_steps, sigma_min, sigma_max, final)


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
    count, end = count_levels(num_steps, final)
    ramp = (1.0 - fractions(count)) ** rho
    return with_end(sigma_min * np.exp(ramp * np.log(sigma_max / sigma_min)), end)
