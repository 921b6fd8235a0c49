"""The probability-flow ODE with adaptive steps: a tolerance instead of a number of steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks

SOLVERS = {"dopri5": "Dopri5", "tsit5": "Tsit5", "bosh3": "Bosh3", "dopri8": "Dopri8"}


def adaptive(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    noise: jax.Array,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    solver: str = "dopri5",
    max_steps: int = 4096,
    denoise_last: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Solves dx / d log sigma = x - D(x; sigma) to a tolerance, each sample with its own steps.

    Song et al. 2021 solve the same ODE by RK45 (`dopri5`) at rtol = atol = 1e-5. Needs diffrax,
    the extra `adaptive`. Works under jit, vmap and grad; samples do not see each other's steps,
    but the loop runs until the slowest is done.

    Args:
      denoise: (x `[B, ...]`, sigma `[B]`) -> denoised image.
      noise: `[B, ...]` standard normal.
      sigma_min: the level to stop at.
      sigma_max: the level to start from.
      rtol: relative tolerance of a step's error, root mean square over a sample.
      atol: absolute tolerance.
      solver: "dopri5", "tsit5", "bosh3" or "dopri8".
      max_steps: attempts after which the solution fails, as NaN.
      denoise_last: return D at sigma_min, one evaluation more, instead of x.

    Returns:
      The sample `[B, ...]`, and the evaluations it took, int `[B]`.

    Raises:
      ImportError: diffrax is not installed.
      ValueError: options out of range.
    """
    checks.one_of("solver", solver, tuple(SOLVERS))
    checks.between(
        "sigma_max", sigma_max, checks.between("sigma_min", sigma_min, 0.0, open_low=True)
    )
    checks.between("rtol", rtol, 0.0)
    checks.between("atol", atol, 0.0, open_low=True)
    checks.between("max_steps", max_steps, 1)
    try:
        import diffrax
    except ImportError as error:
        raise ImportError(
            "adaptive solvers need diffrax: pip install 'edm_jax[adaptive]'"
        ) from error
    noise = jnp.asarray(noise)
    method = getattr(diffrax, SOLVERS[solver])()
    # The first attempt's stages, then one less a step: they begin with the last one's slope.
    stages = method.tableau.num_stages
    first_same = method.tableau.fsal
    last = float(np.log(sigma_min))

    def one(latent):
        def slope(u, x, _):
            return x - jnp.asarray(denoise(x[None], jnp.exp(u)[None])[0], x.dtype)

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            method,
            t0=float(np.log(sigma_max)),
            t1=last,
            dt0=-0.05,
            y0=sigma_max * latent,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            max_steps=int(max_steps),
            throw=False,
        )
        x = solution.ys[0]
        x = jnp.where(solution.result == diffrax.RESULTS.successful, x, jnp.nan)
        if denoise_last:
            x = jnp.asarray(denoise(x[None], jnp.full((1,), sigma_min, x.dtype))[0], x.dtype)
        steps = solution.stats["num_steps"]
        calls = steps * (stages - 1) + 1 if first_same else steps * stages
        return x, calls + denoise_last

    return jax.vmap(one)(noise)
