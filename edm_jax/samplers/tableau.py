"""A sampler as data: one row of numbers per network evaluation, and the one loop that runs them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness
from edm_jax.checks import check_keys


class Tableau(NamedTuple):
    """A sampler that is linear in the state, the denoised image and noise.

    It keeps R registers `Y: [R, B, ...]`, of which Y[0] is where the denoiser is evaluated:

        start:  Y = start @ [noise; z]
        row k:  D = denoise(Y[0], sigma[k]);   Y <- weights[k] @ [Y; D; z_k]

    and its result is Y[0] after the last row. (Numerical analysts call it a general linear
    method.) Scaled processes run in the frame x / s(t), so their scaling too is only numbers.

    Attributes:
      start: `[R, 2]`, the first registers from the standard normal `noise` and a second draw z.
      sigma: `[K]`, the positive noise level of each evaluation.
      weights: `[K, R, R + 2]`, what each row makes of the registers, of D and of fresh noise.

    Fields are numpy float64 when built on the host. A tableau is also a pytree: passed as an
    argument of a jitted function it is traced, and every tableau of its K and R shares one program.
    """

    start: np.ndarray
    sigma: np.ndarray
    weights: np.ndarray

    @property
    def nfe(self) -> int:
        """The number of network evaluations, K."""
        return self.sigma.shape[-1]

    @property
    def registers(self) -> int:
        """The number of registers, R."""
        return self.start.shape[-2]

    @property
    def stochastic(self) -> bool:
        """Whether any noise but the initial one enters (concrete tableaux only)."""
        return bool(np.any(self.start[:, 1]) or np.any(self.weights[:, :, -1]))


def symbols(registers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The unit vectors in which a row is written: `(Y, D, z)`.

    A row of a tableau is then the equation of its method. One step of Euler's from s to t:

    >>> Y, D, z = symbols(1)
    >>> s, t = 2.0, 1.0
    >>> x = Y[0]
    >>> (x + (t - s) * (x - D) / s).tolist()
    [0.5, 0.5, 0.0]

    Args:
      registers: R.

    Returns:
      Y `[R, R + 2]`, D `[R + 2]`, z `[R + 2]`.
    """
    basis = np.eye(registers + 2)
    return basis[:registers], basis[registers], basis[registers + 1]


def assemble(start, rows) -> Tableau:
    """Stacks rows to a checked tableau.

    Args:
      start: `[R, 2]`.
      rows: a list of `(sigma, registers)`, where registers are R vectors `[R + 2]`.

    Returns:
      The tableau, float64.

    Raises:
      ValueError: what `check` finds.
    """
    return check(
        Tableau(
            np.asarray(start, np.float64),
            np.asarray([sigma for sigma, _ in rows], np.float64),
            np.asarray([registers for _, registers in rows], np.float64),
        )
    )


def pad(tableau: Tableau, registers: int) -> Tableau:
    """Adds registers that stay zero, so that different methods share one compiled program.

    >>> pad(Tableau(np.ones((1, 2)), np.ones(3), np.ones((3, 1, 3))), 2).weights.shape
    (3, 2, 4)

    Args:
      tableau: K rows of R registers.
      registers: the new R.

    Returns:
      The same sampler with `registers` registers.

    Raises:
      ValueError: fewer registers than there are.
    """
    tableau = check(tableau)
    size, extra = tableau.registers, registers - tableau.registers
    if extra < 0:
        raise ValueError(f"registers must be at least {size}, got {registers}")
    weights = np.zeros((tableau.nfe, registers, registers + 2))
    weights[:, :size, :size] = tableau.weights[:, :, :size]
    weights[:, :size, registers:] = tableau.weights[:, :, size:]
    start = np.concatenate([tableau.start, np.zeros((extra, 2))])
    return Tableau(start, tableau.sigma, weights)


def check(tableau: Tableau) -> Tableau:
    """Returns a concrete tableau as numpy float64, or says what is wrong with it.

    Raises:
      ValueError: shapes that disagree, entries that are not finite, noise levels not above 0.
    """
    tableau = Tableau(*(np.asarray(field, np.float64) for field in tableau))
    _check_shapes(tableau)
    for name, field in tableau._asdict().items():
        if not np.isfinite(field).all():
            raise ValueError(f"tableau.{name} has entries that are not finite")
    if not (tableau.sigma > 0).all():
        raise ValueError(
            f"tableau.sigma must be positive (a denoiser is undefined at 0), got {tableau.sigma}"
        )
    return tableau


def _check_shapes(tableau: Tableau) -> None:
    start, sigma, weights = (np.shape(field) for field in tableau)
    if len(start) != 2 or start[0] < 1 or start[1] != 2:
        raise ValueError(f"tableau.start must have shape [R, 2], got {start}")
    if len(sigma) != 1 or sigma[0] < 1:
        raise ValueError(f"tableau.sigma must have shape [K] with K >= 1, got {sigma}")
    expected = (sigma[0], start[0], start[0] + 2)
    if weights != expected:
        raise ValueError(
            f"tableau.weights must have shape [K, R, R + 2] = {expected}, got {weights}"
        )


def moments(
    tableau: Tableau,
    mean,
    variance,
    *,
    gain: Callable | None = None,
    start_mean=0.0,
    start_variance=1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The exact mean and variance of a tableau's output for Gaussian data.

    For data N(mean, variance) the denoiser is linear, D = mean + g (x - mean) with
    g = variance / (variance + sigma^2), so registers stay jointly Gaussian: their mean and
    covariance follow the rows. History and noise are included; there is no Monte Carlo.

    >>> euler = Tableau(np.array([[2.0, 0.0]]), np.array([2.0]), np.array([[[0.0, 1.0, 0.0]]]))
    >>> mean, variance = moments(euler, 0.5, 4.0)     # one step to 0 returns D, here half of x
    >>> float(mean), float(variance)
    (0.25, 1.0)

    Args:
      tableau: K rows.
      mean: mean of the data, any shape.
      variance: variance of the data, of a shape that broadcasts with `mean`; 0 is a point mass.
      gain: sigma -> slope g of the denoiser, where it is not the ideal one.
      start_mean: mean of the `noise` argument of `sample`.
      start_variance: variance of the `noise` argument of `sample`.

    Returns:
      Mean and variance of the output, float64, of the common shape of `mean` and `variance`.
    """
    tableau = check(tableau)
    mean, variance = np.broadcast_arrays(
        np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    )
    if (variance < 0).any():
        raise ValueError(f"variance must not be negative, got {variance}")
    size, start = tableau.registers, tableau.start
    state = np.broadcast_to(start[:, 0] * start_mean, (*mean.shape, size))
    # The registers as combinations of independent unit normals, one column each. Their products,
    # the covariance, would lose the small variances that are left of large ones.
    factor = start * np.array([np.sqrt(start_variance), 1.0])
    factor = np.broadcast_to(factor, (*mean.shape, size, 2))
    for sigma, weights in zip(tableau.sigma, tableau.weights):
        g = variance / (variance + sigma**2) if gain is None else gain(sigma)
        g = np.broadcast_to(g, mean.shape)
        of_denoised, of_noise = weights[:, size], weights[:, size + 1]
        step = np.broadcast_to(weights[:, :size], (*mean.shape, size, size)).copy()
        step[..., :, 0] += g[..., None] * of_denoised
        state = (step @ state[..., None])[..., 0] + ((1 - g) * mean)[..., None] * of_denoised
        factor = step @ factor
        if of_noise.any():
            fresh = np.broadcast_to(of_noise[:, None], (*mean.shape, size, 1))
            factor = np.concatenate([factor, fresh], axis=-1)
    return state[..., 0], (factor[..., 0, :] ** 2).sum(-1)


def sample(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    tableau: Tableau,
    noise: jax.Array,
    keys: jax.Array | None = None,
    *,
    row_noise: jax.Array | None = None,
    trajectory: bool = False,
):
    """Runs a tableau: one `jax.lax.scan`, with the network in the program once.

        Y = start @ [noise; z]
        for every row:   D = denoise(Y[0], sigma),   Y <- weights @ [Y; D; z]

    Composes with `jit`, `vmap`, `grad` and `pmap`; sample i depends on `noise[i]` and `keys[i]`
    alone. A deterministic tableau draws no noise, so its result does not depend on the keys.

    >>> import jax, jax.numpy as jnp
    >>> tableau = Tableau(np.array([[2.0, 0.0]]), np.array([2.0]), np.array([[[0.0, 1.0, 0.0]]]))
    >>> denoise = lambda x, sigma: x / (1 + sigma**2)     # the ideal denoiser of data N(0, 1)
    >>> sample(denoise, tableau, jnp.ones((1, 2))).tolist()
    [[0.4000000059604645, 0.4000000059604645]]

    Args:
      denoise: (x `[B, ...]`, sigma `[]`) -> denoised image, of the shape of x.
      tableau: K rows; concrete, or traced as an argument of a jitted function. A traced tableau
        gets noise if and only if `keys` or `row_noise` is given.
      noise: `[B, ...]`, standard normal (or what the tableau starts from: its docstring says).
        Its floating dtype is that of the state.
      keys: `[B]` typed keys; only stochastic tableaux need them. The draw for `start` is
        `fold_in(key, 0)`, the one for row k `fold_in(key, k + 1)`.
      row_noise: `[K + 1, B, ...]`, used in place of these draws: common random numbers, tests.
      trajectory: whether to return the states too; they are not kept otherwise.

    Returns:
      The sample `[B, ...]`; with `trajectory` also the states `[K + 1, B, ...]`: state k is where
      row k evaluates the denoiser, and the last one is the sample.

    Raises:
      ValueError: a malformed tableau, a stochastic one without keys, arguments of wrong shapes.
    """
    noise = jnp.asarray(noise)
    if noise.ndim < 1 or not jnp.issubdtype(noise.dtype, jnp.floating):
        raise ValueError(
            f"noise must be a floating array [B, ...], got {noise.dtype}{list(noise.shape)}"
        )
    if any(isinstance(field, jax.core.Tracer) for field in tableau):
        _check_shapes(tableau)
        noisy = keys is not None or row_noise is not None
    else:
        tableau = check(tableau)
        noisy = tableau.stochastic
        if noisy and keys is None and row_noise is None:
            raise ValueError("keys must be given for a stochastic tableau: one typed key a sample")
    nfe, size = tableau.nfe, tableau.registers
    if not noisy:
        row_noise = None
    elif row_noise is not None:
        row_noise = jnp.asarray(row_noise, noise.dtype)
        if row_noise.shape != (nfe + 1, *noise.shape):
            raise ValueError(
                f"row_noise must have shape [K + 1, B, ...] = {(nfe + 1, *noise.shape)}, "
                f"got {row_noise.shape}"
            )
    else:
        check_keys(keys, noise.shape[0])

    start, sigma, weights = (jnp.asarray(field, noise.dtype) for field in tableau)
    if not noisy:
        start, weights = start[:, :1], weights[:, :, : size + 1]

    def draw(row, given):
        if not noisy:
            return ()
        if given is not None:
            return (given,)
        keys_of_row = randomness.fold_in(keys, row)
        return (randomness.normal(keys_of_row, noise.shape[1:], noise.dtype),)

    def step(registers, row):
        index, level, table, given = row
        denoised = jnp.asarray(denoise(registers[0], level), noise.dtype)
        if denoised.shape != noise.shape:
            raise ValueError(
                f"denoise must return the shape of x, {noise.shape}, got {denoised.shape}"
            )
        registers = _combine(table, (*registers, denoised, *draw(index, given)))
        return registers, (registers[0] if trajectory else None)

    registers = _combine(start, (noise, *draw(0, None if row_noise is None else row_noise[0])))
    given = None if row_noise is None else row_noise[1:]
    first = registers[0]
    registers, states = jax.lax.scan(
        step, registers, (jnp.arange(1, nfe + 1), sigma, weights, given)
    )
    if trajectory:
        return registers[0], jnp.concatenate([first[None], states])
    return registers[0]


def _combine(table: jax.Array, vectors: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """`table @ vectors` by multiply-adds: a dot would run in bfloat16 or TF32 on accelerators."""
    rows = []
    for i in range(table.shape[0]):
        total = table[i, 0] * vectors[0]
        for j, vector in enumerate(vectors[1:], start=1):
            total = total + table[i, j] * vector
        rows.append(total)
    return tuple(rows)
