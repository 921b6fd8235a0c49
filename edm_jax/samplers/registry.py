"""Every solver by its name: what the command line, the documentation and the tests read."""

import difflib
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from edm_jax.samplers import (
    adams,
    first_order,
    langevin,
    multistep,
    reverse_sde,
    runge_kutta,
    singlestep,
)
from edm_jax.samplers.adaptive import adaptive
from edm_jax.samplers.improved_ddpm import improved_ddpm
from edm_jax.samplers.predictor_corrector import predictor_corrector
from edm_jax.samplers.restart import restart
from edm_jax.samplers.tableau import Tableau, sample
from edm_jax.samplers.unipc import unipc


class Solver(NamedTuple):
    """A solver of the registry.

    Attributes:
      make: (sigmas, **options) -> Tableau.
      order: order of convergence with the default options, weak order where noise enters; None
        where it approaches no limit as the grid is refined.
      nfe_per_step: network evaluations a step, before what the docstring says of the ends.
      stochastic: whether its defaults draw noise, so that `sample` needs keys.
      source: where it was published.
    """

    make: Callable[..., Tableau]
    order: int | None
    nfe_per_step: int
    stochastic: bool
    source: str


class Loop(NamedTuple):
    """A sampler that is no tableau: its steps are not linear, or not known beforehand.

    Attributes:
      run: (denoise, sigmas, noise, keys, **options) -> sample `[B, ...]`.
      order, nfe_per_step, stochastic, source: as for `Solver`; nfe_per_step is None where the
        steps are chosen on the way.
    """

    run: Callable[..., jax.Array]
    order: int | None
    nfe_per_step: int | None
    stochastic: bool
    source: str


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
    "analytic_dpm": Solver(first_order.analytic_dpm, 1, 1, True, "Bao et al. 2022 (Analytic-DPM)"),
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
    "consistency": Solver(langevin.consistency, None, 1, True, "Song et al. 2023 (CM)"),
    "ddim_inversion": Solver(
        first_order.ddim_inversion, 1, 1, False, "Song, Meng, Ermon 2021 (DDIM)"
    ),
}


def _adaptive(denoise, sigmas, noise, keys=None, **options):
    del keys
    positive = np.asarray(sigmas)[np.asarray(sigmas) > 0]
    ends = {"sigma_max": float(positive[0]), "sigma_min": float(positive[-1])}
    return adaptive(denoise, noise, **ends | options)[0]


LOOPS: dict[str, Loop] = {
    "predictor_corrector": Loop(predictor_corrector, None, 2, True, f"{SONG}, algorithms 4 and 5"),
    "improved_ddpm": Loop(improved_ddpm, 1, 1, True, "Nichol and Dhariwal 2021 (iDDPM)"),
    "adaptive": Loop(_adaptive, 5, None, False, f"{SONG}, RK45; diffrax"),
}


def build(name: str, sigmas, **options) -> Tableau:
    """Builds a solver of the registry by its name.

    >>> build("heun", [80.0, 1.0, 0.0], alpha=0.5).nfe
    3

    Args:
      name: a key of `SOLVERS`.
      sigmas: `[N + 1]` descending noise levels (`edm_jax.timesteps`).
      **options: what the solver takes beside its grid.

    Returns:
      The tableau.

    Raises:
      ValueError: an unknown name, with the nearest ones; an option that the solver does not take,
        or one that it cannot do without; what the solver says of the options' values.
    """
    if name in LOOPS:
        raise ValueError(f"{name} is no tableau: run it by samplers.generate")
    solver = find(name)
    parameters = list(inspect.signature(solver.make).parameters.values())[1:]
    _check_options(name, parameters, options)
    return solver.make(sigmas, **options)


def generate(name: str, denoise, sigmas, noise: jax.Array, keys=None, **options) -> jax.Array:
    """Samples by name: any tableau of `SOLVERS`, any loop of `LOOPS`.

    Args:
      name: a key of either.
      denoise: (x `[B, ...]`, sigma) -> denoised image (`improved_ddpm` wants (D, v)).
      sigmas: `[N + 1]` descending noise levels; `adaptive` takes its ends from them.
      noise: `[B, ...]` standard normal.
      keys: `[B]` typed keys; only stochastic samplers need them.
      **options: what the sampler takes beside these.

    Returns:
      The sample `[B, ...]`.

    Raises:
      ValueError: as `build` and `sample`.
    """
    if name not in LOOPS:
        return sample(denoise, build(name, sigmas, **options), noise, keys)
    loop = LOOPS[name]
    if loop.stochastic and keys is None:
        raise ValueError(f"keys must be given for {name}: one typed key a sample")
    run = adaptive if loop.run is _adaptive else loop.run
    parameters = inspect.signature(run).parameters.values()
    _check_options(name, [p for p in parameters if p.kind is p.KEYWORD_ONLY], options)
    return loop.run(denoise, sigmas, noise, keys, **options)


def _check_options(name: str, parameters: list[inspect.Parameter], options: dict) -> None:
    known = [parameter.name for parameter in parameters]
    for option in options:
        if option not in known:
            allowed = f"its options are {', '.join(known)}" if known else "it has no options"
            raise ValueError(f"{name} has no option {option!r}: {allowed}")
    for parameter in parameters:
        value = options.get(parameter.name, parameter.default)
        if isinstance(parameter.default, bool) and not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{parameter.name} must be True or False, got {value!r}")
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ValueError(f"{name} needs the option {parameter.name!r}")


def find(name: str) -> Solver:
    """Looks a solver up; a ValueError names the nearest ones."""
    if name in SOLVERS:
        return SOLVERS[name]
    near = difflib.get_close_matches(name, [*SOLVERS, *LOOPS], n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "see edm_jax.samplers.SOLVERS"
    raise ValueError(f"there is no solver {name!r}; {hint}")
