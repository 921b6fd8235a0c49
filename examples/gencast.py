"""GenCast's sampler as a tableau: fields of a forecast as a tree, noise drawn on the sphere.

    forecast(denoise, like, keys)     # like: fields [B, ..., latitude, longitude] in any tree
    python examples/gencast.py        # calls, the exact spread it leaves, the noise by latitude

Price et al. 2023 (arXiv 2312.15796). The network is trained at levels of `objectives.karras()`
with the weight `objectives.edm_weight(1.0)`, on noise of this sphere too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import normal, sample, samplers, timesteps
from edm_jax.randomness import leafwise, split

LEVELS = timesteps.edm(20, sigma_min=0.03, sigma_max=80.0, rho=7.0)
CHURN = samplers.Churn(s_churn=2.5, s_min=0.75, s_noise=1.05)


def sampler(churn=CHURN):
    """The published sampler, in 39 calls: its authors make a 40th at sigma = 0, and drop it."""
    return samplers.dpmpp_2s(LEVELS, churn=churn)


@functools.cache
def harmonics(latitudes, longitudes):
    """Spherical harmonics of degree n < L = longitudes / 2 and order m, of power 1 / L a degree.

    Their factors of latitude, [n, m, latitude] from pole to pole, and of longitude, [2, m, lon].
    """
    count, angle = longitudes // 2, np.linspace(0.0, np.pi, latitudes)
    table = np.zeros((count, count, latitudes))
    table[0, 0] = 1.0
    for n in range(1, count):
        m = np.arange(n)[:, None]
        before = np.sqrt(((n - 1) ** 2 - m**2) / (4 * (n - 1) ** 2 - 1)) * table[n - 2, :n]
        step = np.sqrt((4 * n**2 - 1) / (n**2 - m**2))
        table[n, :n] = step * (np.cos(angle) * table[n - 1, :n] - before)
        table[n, n] = np.sqrt((2 * n + 1) / (2 * n)) * np.sin(angle) * table[n - 1, n - 1]
    turn = np.outer(np.arange(count), 2 * np.pi * np.arange(longitudes) / longitudes)
    waves = np.stack([np.cos(turn), np.sin(turn)]) * np.where(np.arange(count), 2**0.5, 1)[:, None]
    return table / np.sqrt(count * (2 * np.arange(count) + 1))[:, None, None], waves


def sphere_noise(keys, like):
    """Isotropic noise of variance 1 on the sphere, for `draw`: fields [B, ..., lat, lon]."""

    def field(keys, leaf):
        table, waves = (jnp.asarray(t, leaf.dtype) for t in harmonics(*leaf.shape[-2:]))
        drawn = normal(keys, (*leaf.shape[1:-2], 2, *table.shape[:2]), dtype=leaf.dtype)
        return jnp.einsum("...cnm,nmt,cmp->...tp", drawn, table, waves, precision="highest")

    return leafwise(field, keys, like)


def forecast(denoise, like, keys):
    """Draws one member for each typed key [B], of the structure and shapes of `like`."""
    start, path = split(keys)
    return sample(denoise, sampler(), sphere_noise(start, like), path, draw=sphere_noise)


def main():
    data = np.array([0.1, 0.3, 1.0, 3.0])
    spread = np.sqrt(samplers.moments(sampler(), 0.0, data**2)[1]) / data
    print(f"{sampler().nfe} calls; spread of Gaussian data of deviation {data}: {spread.round(3)}")
    members = sphere_noise(jax.random.split(jax.random.key(0), 2000), jnp.zeros((1, 7, 12)))
    print("variance of the noise from pole to pole:", np.var(members, axis=(0, 2)).round(2))


if __name__ == "__main__":
    main()
