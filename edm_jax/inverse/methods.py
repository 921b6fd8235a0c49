"""Every method of inverse problems by its name, and what each one asks of a measurement."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.checks import Denoiser
from edm_jax.inverse import posterior, steps
from edm_jax.inverse.measurement import check_noise
from edm_jax.inverse.operators import Operator
from edm_jax.inverse.spectral import Spectral
from edm_jax.options import Option, check_options, find, options_of
from edm_jax.samplers import Loop, Tableau

NEEDS = ("noise", "no noise", "linear", "singular values")


class Method(NamedTuple):
    """A method of the registry: a denoiser of the posterior, or a sampler of it.

    Attributes:
      make: (denoise, operator, y[, sigma_y], **options) -> a denoiser, or
        (operator, y, sigmas[, sigma_y], **options) -> a loop.
      source: where it was published.
      needs: what it asks of a measurement, of `NEEDS`: "noise", sigma_y > 0; "no noise",
        sigma_y = 0; "linear", such an operator; "singular values", an operator that is `Spectral`.
    """

    make: Callable[..., Any]
    source: str
    needs: frozenset[str] = frozenset()

    @property
    def options(self) -> dict[str, Option]:
        """What `make` takes beside the measurement."""
        return options_of(self.make)

    @property
    def samples(self) -> bool:
        """Whether it is a sampler, which takes a grid; else any sampler takes its denoiser."""
        return "sigmas" in inspect.signature(self.make).parameters

    @property
    def takes_noise(self) -> bool:
        """Whether it takes sigma_y."""
        return "sigma_y" in inspect.signature(self.make).parameters


CLEAN = frozenset({"no noise"})
LINEAR = frozenset({"linear"})
SPECTRAL = LINEAR | {"singular values"}
DPS = "Chung et al. 2023 (DPS)"
PIGDM = "Song et al. 2023 (ΠGDM)"
DDNM = "Wang, Yu, Zhang 2023 (DDNM)"

# Nearest to the exact posterior of all that were measured, with the library's default sampler, of
# measurements with noise and without: see docs/conditioning.md.
DEFAULT_METHOD = "mmps"

# By their names within `edm_jax.inverse`.
METHODS: dict[str, Method] = {
    "mmps": Method(posterior.mmps, "Rozet et al. 2024 (MMPS)"),
    "pigdm": Method(posterior.pigdm, PIGDM),
    "tmpd": Method(posterior.tmpd, "Boys et al. 2023 (TMPD)"),
    "dps": Method(posterior.dps, f"{DPS}, the score", frozenset({"noise"})),
    "jfps": Method(posterior.jfps, "pixels taken to be independent"),
    "diffpir": Method(posterior.diffpir, "Zhu et al. 2023 (DiffPIR)"),
    "projection": Method(posterior.projection, "replacement of what is known", CLEAN),
    "steps.dps": Method(steps.dps, f"{DPS}, algorithms 1 and 2"),
    "steps.pigdm": Method(steps.pigdm, f"{PIGDM}, algorithm 1", CLEAN),
    "steps.ddnm": Method(steps.ddnm, DDNM, CLEAN),
    "steps.ddnm_plus": Method(steps.ddnm_plus, f"{DDNM}, section 3.3", SPECTRAL),
    "steps.ddrm": Method(steps.ddrm, "Kawar et al. 2022 (DDRM)", SPECTRAL),
    "steps.repaint": Method(steps.repaint, "Lugmayr et al. 2022 (RePaint)", CLEAN | LINEAR),
    "steps.score_sde": Method(steps.score_sde, "Song et al. 2021 (score SDE)", CLEAN | LINEAR),
}


def check_method(
    name: str, operator: Operator, shape: Sequence[int], sigma_y: float, **options: Any
) -> Method:
    """Checks that a method is for a measurement.

    Args:
      name: a key of `METHODS`.
      operator: A.
      shape: of one image.
      sigma_y: deviation of the measurement's noise, not negative.
      **options: what the method takes beside the measurement.

    Returns:
      The method.

    Raises:
      ValueError: an unknown name, with the nearest one; an operator that does not take such
        images, or a noise that the method is not for; an option that it does not take.
    """
    method = find("method", name, METHODS)
    check_noise(sigma_y)
    check_options(f"the method {name!r}", method.options, options)
    lacking = {
        "noise": (sigma_y == 0, "measurements without noise"),
        "no noise": (sigma_y > 0, f"noise, sigma_y = {sigma_y:g}"),
        "linear": (not _is_linear(operator, shape), "operators that are not linear"),
        "singular values": (
            not isinstance(operator, Spectral),
            "operators that are no inverse.Spectral",
        ),
    }
    lacks = {need for need, (missing, _) in lacking.items() if missing}
    for need in NEEDS:
        if need in method.needs & lacks:
            others = ", ".join(n for n, other in METHODS.items() if not other.needs & lacks)
            raise ValueError(
                f"method must be one that is for {lacking[need][1]} ({others}), got {name!r}"
            )
    return method


def condition(
    name: str,
    denoise: Denoiser,
    operator: Operator,
    y: jax.Array,
    sigma_y: float,
    sampler: Any,
    **options: Any,
) -> tuple[Denoiser, Tableau | Loop]:
    """The denoiser and the sampler by which a method draws from p(x0 | y).

    Args:
      name: a key of `METHODS`, one that `check_method` lets pass.
      denoise: (x, sigma) -> D.
      operator: A.
      y: [B, ...], the measurement of each sample.
      sigma_y: deviation of the measurement's noise.
      sampler: for a denoiser of the posterior, what draws from it; for a method that is a sampler,
        [N + 1] descending noise levels.
      **options: what the method takes beside the measurement.

    Returns:
      What `edm_jax.sample` takes: a denoiser, and a tableau or a loop.

    Raises:
      ValueError: an unknown name; what the method says of its options.
    """
    method = find("method", name, METHODS)
    noise = (sigma_y,) if method.takes_noise else ()
    if method.samples:
        return denoise, method.make(operator, y, sampler, *noise, **options)
    return method.make(denoise, operator, y, *noise, **options), sampler


def _is_linear(operator: Operator, shape: Sequence[int]) -> bool:
    """Whether A (x - z) = A x - A z for some x and z."""
    x, z = np.random.default_rng(0).standard_normal((2, 1, *shape)).astype(np.float32)
    both, first, second = (np.asarray(operator(jnp.asarray(a))) for a in (x - z, x, z))
    return bool(np.allclose(both, first - second, atol=1e-4 * max(np.abs(first).max(), 1e-30)))
