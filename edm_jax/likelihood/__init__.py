"""Likelihoods of a denoiser: by its probability flow, by its variational bound; bits per dim."""

from edm_jax.likelihood.bits import bits_per_dim, dequantize
from edm_jax.likelihood.bound import Elbo, elbo
from edm_jax.likelihood.density import LogProb, log_prob
from edm_jax.likelihood.flow import decode, encode
from edm_jax.likelihood.fokker_planck import fokker_planck_residual
from edm_jax.likelihood.trace import divergence

__all__ = [
    "Elbo",
    "LogProb",
    "bits_per_dim",
    "decode",
    "dequantize",
    "divergence",
    "elbo",
    "encode",
    "fokker_planck_residual",
    "log_prob",
]
