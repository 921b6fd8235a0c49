"""GITS: noise levels by dynamic programming over reference paths (Chen et al. 2024).

A path is cheap to follow where it is straight. The cost of each jump along it is measured once,
for Euler's step; the levels of any number of calls are then a shortest path.
"""

from typing import Literal

import numpy as np

from edm_jax.checks import check_positive, one_of
from edm_jax.tuning.paths import Path

Metric = Literal["dev", "l1", "l2"]
METRICS: tuple[Metric, ...] = ("dev", "l1", "l2")


def costs(path: Path, *, metric: Metric = "dev") -> np.ndarray:
    """What every jump of one Euler step along a path costs, the mean over samples.

        xh = X_i + (s_j - s_i) d_i
        l1, l2:  ||xh - X_j||_1, ||xh - X_j||_2
        dev:     delta(xh) - delta(X_j),  delta(x) = distance of x from the line X_0 to X_(N-1)

    (Chen et al. 2024, "On the trajectory regularity of ODE-based diffusion sampling", with the
    metrics of their program.) "dev" is signed: a jump that keeps nearer to the line than the path
    costs less than nothing.

    Args:
      path: of N levels.
      metric: "dev", "l1" or "l2".

    Returns:
      `[N, N]`; the cost of i -> j for j > i, and 0 elsewhere.

    Raises:
      ValueError: an unknown metric.
    """
    one_of("metric", metric, METRICS)
    count, batch = path.states.shape[:2]
    states, slopes = (a.reshape(len(a), batch, -1) for a in (path.states, path.slopes))
    first, chord = states[0], states[-1] - states[0]
    chord = chord / np.linalg.norm(chord, axis=-1, keepdims=True)

    def deviation(x):
        away = x - first
        return np.linalg.norm(away - (away * chord).sum(-1, keepdims=True) * chord, axis=-1)

    own = deviation(states)
    own[-1] = 0.0  # on the line, to the last bit
    found = np.zeros((count, count))
    for i in range(count - 1):
        steps = (path.sigmas[i + 1 :] - path.sigmas[i])[:, None, None]
        jumped = states[i] + steps * slopes[i]
        if metric == "dev":
            each = deviation(jumped) - own[i + 1 :]
        else:
            order = 1 if metric == "l1" else 2
            each = np.linalg.norm(jumped - states[i + 1 :], ord=order, axis=-1)
        found[i, i + 1 :] = each.mean(axis=-1)
    return found


def cheapest(cost: np.ndarray, calls: int, *, gamma: float = 1.15) -> tuple[np.ndarray, float]:
    """The cheapest way along a path in so many jumps.

        V_1(i) = C(i, N-1),   V_k(j) = min over j < i < N-1 of C(j, i) + gamma V_(k-1)(i)

    gamma multiplies the cost still to come, so that gamma > 1 moves points to low levels.

    >>> cost = np.array([[0.0, 1, 4, 9], [0, 0, 1, 4], [0, 0, 0, 1], [0, 0, 0, 0]])
    >>> cheapest(cost, 2, gamma=1.0)[0].tolist()
    [0, 1, 3]

    Args:
      cost: `[N, N]`, of `costs`.
      calls: how many jumps, K, from 1 to N - 1.
      gamma: the factor of each further jump (GITS: 1.15; 1.2 for Stable Diffusion).

    Returns:
      (indices `[K + 1]` of the points, from 0 to N - 1; the total V_K(0)).

    Raises:
      ValueError: more jumps than there are points for, or gamma not positive.
    """
    check_positive(gamma=gamma)
    last = len(cost) - 1
    if not 1 <= calls <= last:
        raise ValueError(f"calls must lie in [1, {last}], got {calls}")
    jump = np.where(np.triu(np.ones_like(cost, bool), 1), cost, np.inf)[:, :last]
    value, follow = np.append(cost[:last, last], np.inf)[:last], []
    for _ in range(calls - 1):
        total = jump[:last] + gamma * value
        follow.append(total.argmin(axis=1))
        value = total.min(axis=1)
    indices = [0]
    for nearest in reversed(follow):
        indices.append(int(nearest[indices[-1]]))
    return np.array([*indices, last]), float(value[0])
