"""Samplers: tableaux built on the host, and the one loop that runs them."""

from edm_jax.samplers.registry import SOLVERS, Solver, build
from edm_jax.samplers.runge_kutta import Churn, euler, heun, ode
from edm_jax.samplers.tableau import Tableau, assemble, moments, sample, symbols
