"""Integrals behind multistep weights, exact to rounding: phi functions and Lagrange bases.

Transcribed closed forms of these weights are where published solvers went wrong (a misplaced
parenthesis, a lost factor 2); integrals are written once.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def phi(order: int, z: float) -> float:
    """phi_k(z) = int_0^1 e^((1 - u) z) u^(k-1) / (k-1)! du; phi_0 is exp.

    phi_1 = (e^z - 1)/z and phi_(k+1) = (phi_k - 1/k!)/z, which loses all its digits for small z:
    there the series sum_j z^j / (j + k)! is used.

    >>> round(phi(1, -1.0), 6), phi(2, 0.0)
    (0.632121, 0.5)
    """
    if abs(z) < 1.0:
        return sum(z**j / math.factorial(j + order) for j in range(20))
    value = math.exp(z)
    for k in range(order):
        value = (value - 1.0 / math.factorial(k)) / z
    return value


def lagrange(
    nodes: ArrayLike,
    low: float,
    high: float,
    *,
    weight: Callable = np.ones_like,
    variable: Callable = lambda u: u,
) -> np.ndarray:
    """w_j = int_low^high weight(u) L_j(variable(u)) du: weights of an interpolation, integrated.

    L_j is the Lagrange polynomial that is 1 at node j and 0 at the others.

    >>> lagrange([0.0, -1.0], 0.0, 1.0).tolist()      # Adams-Bashforth 2
    [1.5, -0.5]

    Args:
      nodes: `[k]` distinct values of the variable.
      low, high: the ends of the integral.
      weight: u `[m]` -> `[m]`.
      variable: u -> where the polynomial is evaluated.

    Returns:
      `[k]`.
    """
    nodes = np.asarray(nodes, np.float64)
    u = 0.5 * (high - low) * _POINTS + 0.5 * (high + low)
    mass = 0.5 * (high - low) * _WEIGHTS * weight(u)
    at = variable(u)
    weights = []
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        weights.append(mass @ np.prod((at[:, None] - others) / (node - others), axis=1))
    return np.array(weights)


def difference_of_squares(high: Any, low: Any) -> Any:
    """sqrt(high^2 - low^2) without the cancellation; 0 where high <= low."""
    return np.sqrt(np.maximum((high - low) * (high + low), 0.0))
