"""The schedules by name."""

from collections.abc import Callable
from typing import Any, Literal

from edm_jax.checks import one_of
from edm_jax.options import check_options, find, options_of
from edm_jax.schedules.closed_form import cosine, edm, flow, trigflow, ve, ve_geometric
from edm_jax.schedules.linear_beta import sub_vp, vp, vp_from_range
from edm_jax.schedules.record import Schedule, with_vp_scaling, without_scaling

# What the command line and the documentation choose from: name -> (**options) -> schedule.
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "edm": edm,
    "vp": vp,
    "ve": ve,
    "ve_geometric": ve_geometric,
    "sub_vp": sub_vp,
    "cosine": cosine,
    "flow": flow,
    "trigflow": trigflow,
}
# Of these the ones that are fitted to a grid's (sigma_min, sigma_max), as in EDM's table 1.
FROM_RANGE: dict[str, Callable[[float, float], Schedule]] = {"vp": vp_from_range}


def build(name: str, **options: Any) -> Schedule:
    """Builds a schedule of the registry by its name.

    >>> round(float(build("ve_geometric", sigma_max=1.0).sigma(1.0)), 6)
    1.0

    Args:
      name: A key of `SCHEDULES`.
      **options: What the schedule takes.

    Returns:
      The schedule.

    Raises:
      ValueError: an unknown name, with the nearest one; an option that the schedule does not have.
    """
    make = find("schedule", name, SCHEDULES)
    check_options(f"the schedule {name!r}", options_of(make), options)
    return make(**options)


def process(
    name: str,
    *,
    scaling: Literal["none", "vp"] | None = None,
    ends: tuple[float, float] | None = None,
) -> Schedule:
    """The process that a sampler goes through: a schedule of the registry, its scaling, its range.

    >>> import numpy as np
    >>> process("vp", scaling="none", ends=(0.002, 80.0)).sigma(np.array([1e-3, 1.0])).round(6)
    array([2.e-03, 8.e+01])

    Args:
      name: A key of `SCHEDULES`.
      scaling: s(t): "none", or "vp", 1 / sqrt(1 + sigma(t)^2). None is the schedule's own.
      ends: (sigma_min, sigma_max) of a grid, which a schedule of `FROM_RANGE` is fitted to; None,
        or another schedule: its own constants.

    Returns:
      The schedule.

    Raises:
      ValueError: an unknown name, with the nearest one; a scaling that is none of these; a range
        that the schedule cannot pass through.
    """
    fit = FROM_RANGE.get(name)
    law = build(name) if ends is None or fit is None else fit(*ends)
    if scaling is None:
        return law
    one_of("scaling", scaling, ("none", "vp"))
    return with_vp_scaling(law) if scaling == "vp" else without_scaling(law)
