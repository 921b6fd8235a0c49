"""Samplers: tableaux built on the host, loops for what is none, and the one call that runs them."""

from edm_jax.checks import Remembering
from edm_jax.samplers import analytic
from edm_jax.samplers.adams import deis, ipndm, lms, plms, pndm
from edm_jax.samplers.adaptive_steps import adaptive
from edm_jax.samplers.brownian_motion import brownian
from edm_jax.samplers.churn import Churn
from edm_jax.samplers.consistency_models import consistency
from edm_jax.samplers.corrector import predictor_corrector
from edm_jax.samplers.first_order import analytic_dpm, ddim, ddim_inversion, ddpm, euler_ancestral
from edm_jax.samplers.gaussian import moments
from edm_jax.samplers.langevin import annealed_langevin
from edm_jax.samplers.learned_variance import improved_ddpm
from edm_jax.samplers.multistep import (
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    dpmpp_3m_sde,
    dpmpp_3m_third_order,
    sa_solver,
)
from edm_jax.samplers.registry import DEFAULT_SOLVER, DEFAULT_STEPS, SOLVERS, Solver, build
from edm_jax.samplers.restarts import Interval, restart
from edm_jax.samplers.reverse_sde import euler_maruyama, reverse_diffusion
from edm_jax.samplers.rows import ByRow
from edm_jax.samplers.runge_kutta import euler, heun, ode
from edm_jax.samplers.sampling import Loop, sample
from edm_jax.samplers.singlestep import (
    dpm_2,
    dpm_2_ancestral,
    dpm_solver_1,
    dpm_solver_2,
    dpm_solver_3,
    dpmpp_2s,
    dpmpp_2s_ancestral,
    dpmpp_sde,
)
from edm_jax.samplers.table_1 import ablation
from edm_jax.samplers.tableau import Tableau, pad, symbols
from edm_jax.samplers.unified import unipc

__all__ = [
    "DEFAULT_SOLVER",
    "DEFAULT_STEPS",
    "SOLVERS",
    "ByRow",
    "Churn",
    "Interval",
    "Loop",
    "Remembering",
    "Solver",
    "Tableau",
    "ablation",
    "adaptive",
    "analytic",
    "analytic_dpm",
    "annealed_langevin",
    "brownian",
    "build",
    "consistency",
    "ddim",
    "ddim_inversion",
    "ddpm",
    "deis",
    "dpm_2",
    "dpm_2_ancestral",
    "dpm_solver_1",
    "dpm_solver_2",
    "dpm_solver_3",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_2s",
    "dpmpp_2s_ancestral",
    "dpmpp_3m",
    "dpmpp_3m_sde",
    "dpmpp_3m_third_order",
    "dpmpp_sde",
    "euler",
    "euler_ancestral",
    "euler_maruyama",
    "heun",
    "improved_ddpm",
    "ipndm",
    "lms",
    "moments",
    "ode",
    "pad",
    "plms",
    "pndm",
    "predictor_corrector",
    "restart",
    "reverse_diffusion",
    "sa_solver",
    "sample",
    "symbols",
    "unipc",
]
