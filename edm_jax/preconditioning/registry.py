"""The preconditioners by name."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from edm_jax.checks import one_of
from edm_jax.preconditioning.continuous import consistency, edm, flow, trigflow, ve, vp
from edm_jax.preconditioning.record import Preconditioner
from edm_jax.preconditioning.tabulated import epsilon, iddpm, v, x0

# What a configuration chooses from: name -> constructor.
PRECONDITIONERS: dict[str, Callable[..., Preconditioner]] = {
    "edm": edm,
    "vp": vp,
    "ve": ve,
    "iddpm": iddpm,
    "epsilon": epsilon,
    "x0": x0,
    "v": v,
    "flow": flow,
    "trigflow": trigflow,
    "consistency": consistency,
}


def build(name: str, **arguments: Any) -> Preconditioner:
    """The preconditioner of a name, one object for equal arguments: under jit it is static.

    >>> build("edm", sigma_data=0.5) is build("edm", sigma_data=0.5)
    True

    Args:
      name: One of `PRECONDITIONERS`.
      **arguments: Its own; levels as an array, or a list or tuple as JSON gives them.

    Returns:
      The preconditioner.

    Raises:
      ValueError: an unknown name, or arguments that it does not take.
    """
    one_of("preconditioner", name, tuple(PRECONDITIONERS))
    try:
        return _build(name, tuple((key, _hashable(arguments[key])) for key in sorted(arguments)))
    except TypeError as error:
        raise ValueError(f"preconditioner_arguments of {name!r}: {error}") from None


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_hashable(each) for each in value)
    return value


@functools.lru_cache(maxsize=64)
def _build(name: str, arguments: tuple[tuple[str, Any], ...]) -> Preconditioner:
    return PRECONDITIONERS[name](**dict(arguments))
