"""Continuous-time consistency, distilled or trained, on TrigFlow with forward-mode derivatives."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import preconditioning
from edm_jax.checks import between, column, inner, one_of
from edm_jax.objectives import uncertainty
from edm_jax.objectives.denoising import Examples, noise_like, perturbed, without_dropout
from edm_jax.objectives.elements import weighted_mean
from edm_jax.objectives.noise import NoiseDistribution
from edm_jax.objectives.record import Losses, Model, Objective, State
from edm_jax.objectives.weighting import one_number
from edm_jax.preconditioning import Preconditioner
from edm_jax.schedules import Function


class Kept(NamedTuple):
    """What `scm` remembers.

    Attributes:
      images: [] int32, those seen, up to the end of the warm-up.
      teacher: the model that is distilled, or ().
    """

    images: jax.Array
    teacher: Any


def scm(
    noise: NoiseDistribution,
    preconditioner: Preconditioner,
    *,
    teacher: Any = None,
    warmup_kimg: float = 5120.0,
    form: Literal["scm", "rcm"] = "scm",
    norm: Literal["l2", "rms"] = "l2",
    weight: Function | None = None,
    learned: uncertainty.Uncertainty | None = None,
) -> Objective:
    """sCM: the tangent of a consistency function f along the flow is driven to zero.

        f(x_t, t) = cos t x_t - sin t sd F(x_t / sd, t),  x_t = cos t y + sin t sd n
        g = -cos^2 t (sd F - v) - w cos t sin t (x_t + sd dF/dt),   g <- g / (|g| + 0.1)
        loss = e^-u weight |F_theta - F - g|^2 / d + u

    Lu and Song 2024. sigma = sd tan t; F, dF/dt and v are held fixed; w rises from 0 to 1 in the
    warm-up. In the form of rCM (Zheng et al. 2025) the derivative counts in full from the start,

        g = -cos t sqrt(1 - w^2 sin^2 t) (sd F - v) - cos t sin t (w x_t + sd dF/dt),

    which at w = 1 is the same. v = cos t sd n - sin t y trains on data (sCT), v = sd F_teacher
    distils (sCD). Of a network made for `preconditioning.edm` F has the other sign, and dF/dt goes
    through ln(sigma).

    Args:
      noise: of the levels sigma.
      preconditioner: of the model, with the coefficients of EDM or TrigFlow.
      teacher: a model that is a pytree, such as `edm_jax.Model`, to distil; its preconditioner
        too is EDM's or TrigFlow's. None trains from data alone.
      warmup_kimg: thousands of images until w is 1; 0 begins there.
      form: of the tangent during the warm-up, "scm" or "rcm".
      norm: "l2", or "rms": the root of the mean over elements, in the tangent's normalisation.
      weight: sigma -> weight of its shape; None is 1 / sigma.
      learned: weigh every level by u(sigma) (`uncertainty.loss`); None is not.

    Returns:
      The objective; its examples are `Examples`. By noise level it logs the mean square of an
      element of g before it is normalised.

    Raises:
      ValueError: an argument that is not allowed.
    """
    sd, _ = _angular(preconditioner)
    between("warmup_kimg", warmup_kimg, 0.0, (2**31 - 1) / 2e3)
    one_of("form", form, ("scm", "rcm"))
    one_of("norm", norm, ("l2", "rms"))
    if weight is not None:
        one_number(weight)
    if teacher is not None and (its := _angular(teacher.preconditioner)[0]) != sd:
        raise ValueError(f"teacher must have the sigma_data of the model, {sd}, got {its}")
    length = round(1e3 * warmup_kimg)

    def init() -> State:
        kept = Kept(jnp.zeros((), jnp.int32), () if teacher is None else teacher)
        return State(learned.init() if learned else (), kept)

    def draw(state: State, keys: jax.Array, y: Any, conditions: dict[str, Any]) -> Examples:
        sigma = jax.vmap(lambda key: noise(key))(keys[:, 0])
        return Examples(y, sigma, noise_like(keys[:, 1], y), conditions)

    def loss(model: Model, state: State, e: Examples) -> Losses:
        x, sigma, y = perturbed(e.y, e.sigma, e.noise)
        level = column(sigma, x)
        root = jnp.sqrt(level**2 + sd**2)
        cos, sin = sd / root, level / root
        x_t = cos * x
        if teacher is None:
            v = cos * sd * e.noise - sin * y
        else:
            told = without_dropout(e.conditions)
            v = sd * _prediction(state.kept.teacher, told)(x_t / sd, sigma)
        # d sigma = sigma is cos t sin t dt.
        f, df = jax.jvp(
            _prediction(model, e.conditions), (x_t / sd, sigma), (cos * sin * v / sd, sigma)
        )
        fixed, df, v = jax.lax.stop_gradient((f, df, v))
        share = state.kept.images.astype(x.dtype) / length if length else 1.0
        if form == "scm":
            g = -(cos**2) * (sd * fixed - v) - share * (cos * sin * x_t + sd * df)
        else:
            stays = cos * jnp.sqrt(1.0 - (share * sin) ** 2)
            g = -stays * (sd * fixed - v) - (share * cos * sin * x_t + sd * df)
        square = inner(g, g)
        size = jnp.sqrt(square if norm == "l2" else square / g[0].size)
        mean, _ = weighted_mean((f - fixed - g / (size + 0.1)) ** 2)
        weighed = mean / sigma if weight is None else mean * weight(sigma)
        counted = weighed
        if learned is not None:
            u = learned.log_variance(model, state.trained, sigma)
            counted = uncertainty.loss(u, weighed)
        return Losses(counted, weighed, square.reshape(-1) / g[0].size, sigma)

    def update(state: State, e: Examples, losses: Losses, gather: Callable[[Any], Any]) -> State:
        images = jnp.minimum(state.kept.images + len(gather(losses.each)), length)
        return state._replace(kept=state.kept._replace(images=images))

    return Objective(init, draw, loss, update)


def _angular(preconditioner: Preconditioner) -> tuple[float, float]:
    """sd, and the sign by which a network's output is F of TrigFlow."""
    sd, sigma = preconditioner.sigma_data, np.array([0.01, 1.0, 50.0])
    if isinstance(sd, float):
        edm, row = preconditioning.edm(sd), preconditioner
        same = [np.allclose(getattr(row, c)(sigma), getattr(edm, c)(sigma)) for c in _SHARED]
        for sign in (1.0, -1.0):
            if all(same) and np.allclose(-sign * row.c_out(sigma), edm.c_out(sigma)):
                return sd, sign
    raise ValueError(
        "preconditioner must be 'edm' or 'trigflow' of one sigma_data, or 'consistency' of "
        f"sigma_min 0, got one of sigma_min {preconditioner.sigma_min}, sigma_data {sd}"
    )


_SHARED = ("c_skip", "c_in")


def _prediction(model: Model, conditions: dict[str, Any]) -> Callable[..., jax.Array]:
    """(x_t / sd, sigma) -> F of TrigFlow."""
    _, sign = _angular(model.preconditioner)
    network = model.prediction(**conditions)
    return lambda x, sigma: sign * network(x, model.preconditioner.c_noise(sigma)).astype(x.dtype)
