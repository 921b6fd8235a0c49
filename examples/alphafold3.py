"""AlphaFold 3's sampler as a tableau, and why its step scale of 1.5 is a temperature.

    sample_atoms(denoise, mask, keys)     # atoms [B, atoms, 3] of a denoiser of your own
    python examples/alphafold3.py         # the exact spread that it leaves of Gaussian data

Abramson et al. 2024, supplementary algorithms 18 and 19; lengths in Angstrom.
"""

import jax.numpy as jnp
import numpy as np

from edm_jax import normal, sample, samplers, timesteps
from edm_jax.randomness import split

SIGMA_DATA = 16.0
CHURN = samplers.Churn(gamma=0.8, s_min=1.0, s_noise=1.003, decides="next")


def sampler(steps=200, step_scale=1.5):
    """The published sampler: Euler's steps of 1.5 times the way, from 2560 A to 0.0064 A."""
    levels = SIGMA_DATA * timesteps.edm(
        steps, sigma_min=4e-4, sigma_max=160.0, rho=7.0, final="sigma_min"
    )
    return samplers.euler(levels, churn=CHURN, step_scale=step_scale)


def rotations(keys, dtype):
    """Uniform rotations [B, 3, 3] from typed keys [B], by Gram and Schmidt."""
    first, second = jnp.moveaxis(normal(keys, (2, 3), dtype=dtype), 1, 0)
    unit = lambda v: v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    first = unit(first)
    second = unit(second - jnp.sum(first * second, axis=-1, keepdims=True) * first)
    return jnp.stack([first, second, jnp.cross(first, second)], axis=-1)


def moved_at_random(mask):
    """A hook for `sample`: every molecule is centred, turned and shifted, other atoms are at 0.

    The denoiser was trained on molecules in any place; the mask `[B, atoms]` is of real atoms.
    """
    mask = mask[..., None]

    def between(row, keys, registers):
        (x,) = registers
        turn, shift = split(keys)
        center = jnp.sum(mask * x, axis=1, keepdims=True) / (mask.sum(1, keepdims=True) + 1e-6)
        turned = jnp.einsum(
            "bai,bij->baj", x - center, rotations(turn, x.dtype), precision="highest"
        )
        return (mask * (turned + normal(shift, (1, 3), dtype=x.dtype)),)

    return between


def sample_atoms(denoise, mask, keys, steps=200, step_scale=1.5):
    """Draws atom positions [B, atoms, 3] for a mask [B, atoms] from typed keys [B]."""
    start, path = split(keys)
    noise, tableau = normal(start, (*mask.shape[1:], 3)), sampler(steps, step_scale)
    return sample(denoise, tableau, noise, path, between=moved_at_random(mask), unroll=4)


def main():
    scales = np.array([0.1, 0.3, 1.0, 3.0])
    print("spread of the samples over that of the data, for Gaussian data")
    print("data, in sigma_data         " + "".join(f"{scale:8.1f}" for scale in scales))
    for name, steps, step_scale in (
        ("as published", 200, 1.5),
        ("step scale 1", 200, 1.0),
        ("published, 50 steps", 50, 1.5),
    ):
        data = SIGMA_DATA * scales
        _, variance = samplers.moments(sampler(steps, step_scale), 0.0, data**2)
        print(f"{name:28}" + "".join(f"{value:8.3f}" for value in np.sqrt(variance) / data))


if __name__ == "__main__":
    main()
