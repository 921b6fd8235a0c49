"""From seeds to images: the sampler over every device, in batches, image i from seed i alone."""

from edm_jax.generation.batches import Samples, draw, generate, paths, to_uint8
from edm_jax.generation.choice import default_solver, default_steps, grid_for, sampler_for
from edm_jax.generation.editing import Inversion, interpolate, invert, redraw
from edm_jax.generation.guided import Guided, guided, guided_by_classifier
from edm_jax.generation.host import host_denoiser
from edm_jax.generation.restoring import (
    Problem,
    Restored,
    check_problem,
    draw_given,
    measure,
    restore,
)
from edm_jax.generation.seeds import pairs, random_classes
