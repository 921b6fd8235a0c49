"""Grids of noise levels: where a sampler evaluates the denoiser.

Every grid is numpy float64, [num_steps + 1], descending; num_steps is the number of steps. With
`final="zero"` (the default) the last level is 0 and `sigma_min` is the one before it; with
`final="sigma_min"` all the steps are spent between `sigma_max` and `sigma_min`. A single step
goes from `sigma_max` to the end at once. Tables of `num_train_steps` levels live in `tables.py`.
"""

from edm_jax.timesteps.registry import GRIDS, RANGE, Grid, build, noise_range, rounded
from edm_jax.timesteps.scheduled import flow, from_schedule, shift, tangent, vp
from edm_jax.timesteps.spacing import Final
from edm_jax.timesteps.tabulated import align_your_steps, ddpm, from_alphas_cumprod, iddpm
from edm_jax.timesteps.warped import edm, exponential, polyexponential, ve
