"""Tables of noise levels of discrete-time models: DDPM, iDDPM, Stable Diffusion.

numpy, on the host, float64 unless a published network needs its float32.
"""

from typing import Any, Literal, get_args

import numpy as np

Betas = Literal["linear", "scaled_linear", "cosine"]
Spacing = Literal["trailing", "leading", "linspace", "quadratic", "truncated"]
BETAS, SPACINGS = get_args(Betas), get_args(Spacing)

# Sabour, Fidler and Kreis 2024, table 3: ten steps, from the largest level down.
ALIGN_YOUR_STEPS = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "deepfloyd": (160.41, 8.081, 3.315, 1.885, 1.207, 0.785, 0.553, 0.293, 0.186, 0.030, 0.006),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


def alphas_cumprod(betas: Betas = "linear", *, num_train_steps: int = 1000) -> np.ndarray:
    """alpha-bar of a DDPM: the cumulative product of 1 - beta_k, k = 0 .. T-1.

    "linear": beta from 1e-4 to 0.02 (Ho et al. 2020), both times 1000/T. "scaled_linear":
    sqrt(beta) from sqrt(0.00085) to sqrt(0.012) (Stable Diffusion). "cosine": the ratio of
    cos^2 with offset 0.008, beta at most 0.999 (Nichol and Dhariwal 2021, eq. 17).

    Args:
      betas: One of `BETAS`.
      num_train_steps: T.

    Returns:
      [T] float64, descending.

    Raises:
      ValueError: unknown betas, or T < 1.

    >>> sigmas(alphas_cumprod("linear"))[[0, -1]].round(4)
    array([1.000000e-02, 1.574073e+02])
    """
    t = num_train_steps
    if not (isinstance(t, (int, np.integer)) and t >= 1):
        raise ValueError(f"num_train_steps must be a positive integer, got {t!r}")
    if betas == "linear":
        beta = np.linspace(1e-4, 2e-2, t) * (1000.0 / t)
    elif betas == "scaled_linear":
        beta = np.linspace(0.00085**0.5, 0.012**0.5, t) ** 2
    elif betas == "cosine":
        bar = np.cos((np.arange(t + 1) / t + 0.008) / 1.008 * np.pi / 2.0) ** 2
        beta = np.minimum(1.0 - bar[1:] / bar[:-1], 0.999)
    else:
        raise ValueError(f"betas must be one of {BETAS}, got {betas!r}")
    return np.cumprod(1.0 - beta)


def sigmas(alphas_cumprod: np.ndarray) -> np.ndarray:
    """sigma_k = sqrt((1 - abar_k) / abar_k): the noise levels of a table, ascending.

    Args:
      alphas_cumprod: [T] in (0, 1], strictly descending.

    Returns:
      [T] float64, ascending.

    Raises:
      ValueError: not such a table. An alpha-bar of 0 (zero terminal SNR) has sigma = inf, from
        which no sampler of sigma can start.
    """
    bar = np.asarray(alphas_cumprod, dtype=np.float64)
    if bar.ndim != 1 or not bar.size or not (bar > 0).all() or not (bar <= 1).all():
        raise ValueError(f"alphas_cumprod must be [T] values in (0, 1], got {bar}")
    if not (np.diff(bar) < 0).all():
        raise ValueError(f"alphas_cumprod must descend strictly, got {bar}")
    return np.sqrt((1.0 - bar) / bar)


def indices(
    num_levels: int, num_train_steps: int, *, spacing: Spacing = "trailing", offset: int = 0
) -> np.ndarray:
    """Which of T training steps a sampler of fewer steps visits.

    "trailing": T-1, T-1 - T/n, ..., rounded (Lin et al. 2024). "leading": 0, s, 2s, ... with
    s = T // n, plus `offset` (DDIM; Stable Diffusion with offset 1), which starts below the
    highest level. "linspace": both ends and even in between, rounded (iDDPM).
    "quadratic": squares of even steps up to sqrt(0.8 T), truncated (DDIM on CIFAR-10).
    "truncated": T-1, (T-1) (1 - 1/n), ..., truncated (generative-models), nearly "trailing". A
    single level is the highest, where sampling starts.

    Args:
      num_levels: n, at most T.
      num_train_steps: T.
      spacing: One of `SPACINGS`.
      offset: Added to "leading" only.

    Returns:
      [n] int, descending.

    Raises:
      ValueError: unknown spacing, n out of range, or an offset that leaves the table.

    >>> indices(4, 1000, spacing="trailing")
    array([999, 749, 499, 249])
    """
    n, t = num_levels, num_train_steps
    if not 1 <= n <= t:
        raise ValueError(f"num_levels must lie in [1, {t}], the size of the table, got {n}")
    if spacing not in SPACINGS:
        raise ValueError(f"spacing must be one of {SPACINGS}, got {spacing!r}")
    if offset and spacing != "leading":
        raise ValueError(f"offset must be 0 with spacing {spacing!r}, got {offset}")
    if n == 1 and not offset:
        return np.array([t - 1])
    if spacing == "leading":
        index = np.arange(n)[::-1] * (t // n) + offset
        if index[0] >= t or offset < 0:
            raise ValueError(f"offset must lie in [0, {t - 1 - index[0] + offset}], got {offset}")
        return index
    if spacing == "trailing":
        return np.rint(t - np.arange(n) * (t / n)).astype(int) - 1
    if spacing == "truncated":
        return np.linspace(t - 1.0, 0.0, n, endpoint=False).astype(int)
    if spacing == "quadratic":
        squares = (np.linspace(0.0, np.sqrt(0.8 * t), n) ** 2).astype(int)
        # Truncation repeats small indices: no level is visited twice.
        return np.minimum(np.maximum(squares, np.arange(n)), t - n + np.arange(n))[::-1]
    return np.rint(np.linspace(0.0, t - 1.0, n)).astype(int)[::-1]


def iddpm(
    num_train_steps: int = 1000,
    *,
    c_1: float = 0.001,
    c_2: float = 0.008,
    variant: Literal["network", "sampler", "exact"] = "network",
) -> np.ndarray:
    """The noise levels u_j of iDDPM as EDM writes them (Karras et al. 2022, table 1).

        u_M = 0,  u_{j-1} = sqrt((u_j^2 + 1) / max(abar_{j-1} / abar_j, C_1) - 1),
        abar_j = sin^2((pi/2) j / (M (C_2 + 1)))

    Three tables of it are in use, which differ by up to 5e-4 relative at the low end.

    Args:
      num_train_steps: M.
      c_1: C_1, the least ratio of successive alpha-bar; it acts at j = 1 only.
      c_2: C_2, the offset of the cosine.
      variant: "network": alpha-bar and recursion in float32, as a pretrained network's buffer.
        "sampler": alpha-bar in float32, recursion in float64, as EDM's general sampler.
        "exact": all in float64.

    Returns:
      [M + 1] descending, the last 0; float32 for "network", else float64.

    Raises:
      ValueError: unknown variant or an argument out of range.
    """
    m = num_train_steps
    if not (isinstance(m, (int, np.integer)) and m >= 1):
        raise ValueError(f"num_train_steps must be a positive integer, got {m!r}")
    if not (0.0 < c_1 < 1.0 and c_2 >= 0.0):
        raise ValueError(f"c_1 must lie in (0, 1) and c_2 in [0, inf), got {c_1} and {c_2}")
    types: dict[str, tuple[Any, Any]] = {
        "network": (np.float32, np.float32),
        "sampler": (np.float32, np.float64),
        "exact": (np.float64, np.float64),
    }
    if variant not in types:
        raise ValueError(f"variant must be one of {sorted(types)}, got {variant!r}")
    inner, outer = types[variant]
    angle = np.arange(m + 1, dtype=inner) * inner(0.5 * np.pi) / inner(m) / inner(c_2 + 1.0)
    bar = np.sin(angle) ** 2
    ratio = np.maximum(bar[:-1] / bar[1:], inner(c_1)).astype(outer)
    u = np.zeros(m + 1, dtype=outer)
    for j in range(m, 0, -1):
        u[j - 1] = np.sqrt((u[j] ** 2 + outer(1.0)) / ratio[j - 1] - outer(1.0))
    return u
