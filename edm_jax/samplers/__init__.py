"""Samplers: tableaux built on the host, and the one loop that runs them."""

from edm_jax.samplers import analytic
from edm_jax.samplers.ablation import ablation
from edm_jax.samplers.adams import deis, ipndm, lms, plms, pndm
from edm_jax.samplers.adaptive import adaptive
from edm_jax.samplers.first_order import analytic_dpm, ddim, ddim_inversion, ddpm, euler_ancestral
from edm_jax.samplers.improved_ddpm import improved_ddpm
from edm_jax.samplers.langevin import annealed_langevin, consistency
from edm_jax.samplers.multistep import (
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    dpmpp_3m_sde,
    dpmpp_3m_third_order,
    sa_solver,
)
from edm_jax.samplers.predictor_corrector import predictor_corrector
from edm_jax.samplers.registry import LOOPS, SOLVERS, Loop, Solver, build, generate
from edm_jax.samplers.restart import Interval, restart
from edm_jax.samplers.reverse_sde import euler_maruyama, reverse_diffusion
from edm_jax.samplers.runge_kutta import Churn, euler, heun, ode
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
from edm_jax.samplers.tableau import Tableau, assemble, moments, pad, sample, symbols
from edm_jax.samplers.unipc import unipc
