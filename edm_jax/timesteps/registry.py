"""The grids by name, within the noise levels that a network knows."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from edm_jax.options import Option, check_options, find, options_of
from edm_jax.timesteps.scheduled import flow, tangent, vp, vp_range
from edm_jax.timesteps.tabulated import align_your_steps, ddpm, iddpm
from edm_jax.timesteps.warped import edm, exponential, polyexponential, ve


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
    "vp": Grid(vp, vp_range),
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
