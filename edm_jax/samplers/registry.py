"""Every solver by its name: what the command line, the documentation and the tests read."""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from edm_jax.options import Option, check_options, find, options_of
from edm_jax.samplers import (
    adams,
    first_order,
    langevin,
    multistep,
    reverse_sde,
    runge_kutta,
    singlestep,
)
from edm_jax.samplers.adaptive_steps import adaptive
from edm_jax.samplers.consistency_models import consistency
from edm_jax.samplers.corrector import predictor_corrector
from edm_jax.samplers.learned_variance import improved_ddpm
from edm_jax.samplers.restarts import restart
from edm_jax.samplers.sampling import Loop
from edm_jax.samplers.tableau import Tableau
from edm_jax.samplers.unified import unipc

# Nearest to the flow at 18 evaluations, or next to it, of all solvers that were measured on an
# exact denoiser and on a trained network, and also at half as many: see docs/sampler-notes.md.
DEFAULT_SOLVER, DEFAULT_STEPS = "ipndm", 18

NEEDS = ("posterior_variance", "image", "variance", "consistency", "diffrax")


class Solver(NamedTuple):
    """A solver of the registry.

    Attributes:
      make: (sigmas, **options) -> Tableau or Loop.
      order: order of convergence with the default options, weak order where noise enters; None
        where it approaches no limit as the grid is refined.
      nfe_per_step: network evaluations a step, before what the docstring says of the ends; None
        where the steps are chosen on the way.
      stochastic: whether its defaults draw noise, so that `sample` needs keys.
      source: where it was published.
      needs: what it asks for beside a denoiser and noise, of `NEEDS`: "posterior_variance", a
        function measured on data (`analytic.estimate`), its option of that name; "image", data to
        start from in place of noise; "variance", a denoiser that returns (D, v); "consistency", a
        consistency function for a denoiser; "diffrax", the package.
    """

    make: Callable[..., Tableau | Loop]
    order: int | None
    nfe_per_step: int | None
    stochastic: bool
    source: str
    needs: frozenset[str] = frozenset()

    @property
    def options(self) -> dict[str, Option]:
        """What `make` takes beside its grid."""
        return options_of(self.make)


EDM = "Karras et al. 2022 (EDM)"
KD = "k-diffusion (Crowson 2022)"
DPM = "Lu et al. 2022 (DPM-Solver)"
DPMPP = "Lu et al. 2022 (DPM-Solver++)"
SONG = "Song et al. 2021 (score SDE)"

SOLVERS: dict[str, Solver] = {
    "euler": Solver(runge_kutta.euler, 1, 1, False, f"{EDM}, algorithm 2 uncorrected"),
    "heun": Solver(runge_kutta.heun, 2, 2, False, f"{EDM}, algorithms 1 and 2"),
    "ddim": Solver(first_order.ddim, 1, 1, False, "Song, Meng, Ermon 2021 (DDIM)"),
    "ddpm": Solver(first_order.ddpm, 1, 1, True, "Ho, Jain, Abbeel 2020 (DDPM)"),
    "analytic_dpm": Solver(
        first_order.analytic_dpm,
        1,
        1,
        True,
        "Bao et al. 2022 (Analytic-DPM)",
        frozenset({"posterior_variance"}),
    ),
    "euler_ancestral": Solver(first_order.euler_ancestral, 1, 1, True, KD),
    "euler_maruyama": Solver(reverse_sde.euler_maruyama, 1, 1, True, SONG),
    "reverse_diffusion": Solver(reverse_sde.reverse_diffusion, 1, 1, True, SONG),
    "dpm_2": Solver(singlestep.dpm_2, 2, 2, False, KD),
    "dpm_2_ancestral": Solver(singlestep.dpm_2_ancestral, 2, 2, True, KD),
    "dpm_solver_1": Solver(singlestep.dpm_solver_1, 1, 1, False, DPM),
    "dpm_solver_2": Solver(singlestep.dpm_solver_2, 2, 2, False, DPM),
    "dpm_solver_3": Solver(singlestep.dpm_solver_3, 3, 3, False, DPM),
    "dpmpp_2s": Solver(singlestep.dpmpp_2s, 2, 2, False, DPMPP),
    "dpmpp_2s_ancestral": Solver(singlestep.dpmpp_2s_ancestral, 2, 2, True, KD),
    "dpmpp_sde": Solver(singlestep.dpmpp_sde, 2, 2, True, KD),
    "dpmpp_2m": Solver(multistep.dpmpp_2m, 2, 1, False, DPMPP),
    "dpmpp_2m_sde": Solver(multistep.dpmpp_2m_sde, 2, 1, True, DPMPP),
    "dpmpp_3m": Solver(multistep.dpmpp_3m, 2, 1, False, f"{DPMPP}, as published"),
    "dpmpp_3m_sde": Solver(multistep.dpmpp_3m_sde, 2, 1, True, f"{KD}, as published"),
    "dpmpp_3m_third_order": Solver(
        multistep.dpmpp_3m_third_order, 3, 1, False, f"{DPMPP}, with the factor 2"
    ),
    "lms": Solver(adams.lms, 4, 1, False, KD),
    "ipndm": Solver(adams.ipndm, 2, 1, False, "Zhang and Chen 2023 (DEIS)"),
    "plms": Solver(adams.plms, 2, 1, False, "Liu et al. 2022 (PNDM), skip_prk_steps"),
    "pndm": Solver(adams.pndm, 2, 1, False, "Liu et al. 2022 (PNDM)"),
    "deis": Solver(adams.deis, 3, 1, False, "Zhang and Chen 2023 (DEIS)"),
    "unipc": Solver(unipc, 3, 1, False, "Zhao et al. 2023 (UniPC)"),
    "sa_solver": Solver(multistep.sa_solver, 2, 1, True, "Xue et al. 2023 (SA-Solver)"),
    "restart": Solver(restart, None, 2, True, "Xu et al. 2023 (Restart)"),
    "annealed_langevin": Solver(
        langevin.annealed_langevin, None, 100, True, "Song and Ermon 2019 (NCSN)"
    ),
    "consistency": Solver(
        consistency, None, 1, True, "Song et al. 2023 (CM)", frozenset({"consistency"})
    ),
    "ddim_inversion": Solver(
        first_order.ddim_inversion,
        1,
        1,
        False,
        "Song, Meng, Ermon 2021 (DDIM)",
        frozenset({"image"}),
    ),
    "predictor_corrector": Solver(
        predictor_corrector, None, 2, True, f"{SONG}, algorithms 4 and 5"
    ),
    "improved_ddpm": Solver(
        improved_ddpm, 1, 1, True, "Nichol and Dhariwal 2021 (iDDPM)", frozenset({"variance"})
    ),
    "adaptive": Solver(adaptive, 5, None, False, f"{SONG}, RK45; diffrax", frozenset({"diffrax"})),
}


def build(name: str, sigmas: ArrayLike, **options: Any) -> Tableau | Loop:
    """Builds a solver of the registry by its name.

    >>> build("heun", [80.0, 1.0, 0.0], alpha=0.5)
    Tableau(nfe=3, registers=2, stochastic=False)

    Args:
      name: a key of `SOLVERS`.
      sigmas: `[N + 1]` descending noise levels (`edm_jax.timesteps`).
      **options: what the solver takes beside its grid.

    Returns:
      The tableau, or the loop of a solver that is none.

    Raises:
      ValueError: an unknown name, with the nearest one; an option that the solver does not take,
        or one that it cannot do without; what the solver says of the options' values.
    """
    solver = find("solver", name, SOLVERS)
    check_options(name, solver.options, options)
    return solver.make(sigmas, **options)
