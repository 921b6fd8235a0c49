"""The sampler of consistency models: jumps to the data, and noise between them."""

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.samplers import numerics
from edm_jax.samplers.tableau import Tableau, symbols


def consistency(sigmas: ArrayLike, *, sigma_min: float = 0.002) -> Tableau:
    """Multistep sampling of a consistency model (Song, Dhariwal, Chen, Sutskever 2023, alg. 1).

        x <- f(x; sigma),   then for each next level  x <- x + sqrt(sigma'^2 - sigma_min^2) z

    The denoiser here is the consistency function f, which maps to sigma_min. With sigma_min = 0
    it is the sampler of sCM (Lu and Song 2024), in the frame x / cos(t). For a consistency
    function without error every number of steps is exact: no order. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last 0 (or at most sigma_min).
      sigma_min: the level that f maps to; not above the positive levels but the last.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend or ends above sigma_min, sigma_min out of range.
    """
    levels = checks.descending(sigmas)
    checks.between("sigma_min", sigma_min, 0.0)
    if np.isclose(levels[-1], sigma_min, rtol=1e-9, atol=0.0):  # a grid's end is rounded
        levels = np.append(levels[:-1], sigma_min)
    if levels[-1] > sigma_min:
        raise ValueError(f"the last of sigmas must be at most {sigma_min}, got {levels[-1]}")
    _, D, z = symbols(1)
    rows = []
    for sigma, target in zip(levels, levels[1:]):
        rows.append((sigma, [D + numerics.difference_of_squares(target, sigma_min) * z]))
    return Tableau.from_rows([[levels[0], 0.0]], rows)
