"""What a sampler sees on its way: the noisy image above, and the denoised one below."""

import jax
import numpy as np
from drawing import figure, save

from edm_jax import ideal, normal, sample, sample_keys, samplers, timesteps
from edm_jax.data import archive

ROWS = 0, 4, 6, 8, 10, 12, 14, 16


def path(seed: int = 4):
    """States [K, 8, 8], what is made of them [K, 8, 8] and the levels [K] at some rows."""
    images = archive.load("digits").images.astype(np.float32) / 127.5 - 1
    tableau = samplers.euler(timesteps.edm(18))
    noise = normal(sample_keys([seed]), (8, 8, 1))
    run = jax.jit(lambda d, z: sample(d, tableau, z, trajectory=list(ROWS))[1])
    denoise = ideal.dataset(images)
    states, levels = run(denoise, noise)[:, 0], tableau.sigma[list(ROWS)]
    made = jax.jit(lambda d, x, sigma: d(x, sigma))(denoise, states, levels.astype(np.float32))
    return np.asarray(states)[..., 0], np.asarray(made)[..., 0], levels


def main() -> None:
    """Draws the path of one image of the ideal denoiser of the digits."""
    states, made_of, levels = path()
    made, axes = figure(2, len(ROWS), width=9.0, height=2.6)
    for above, below, x, x0, sigma in zip(*axes, states, made_of, levels):
        above.imshow(x / np.sqrt(1 + sigma**2), cmap="gray", vmin=-2, vmax=2)
        below.imshow(x0, cmap="gray", vmin=-1, vmax=1)
        above.set_title(f"σ = {sigma:.2g}", fontsize=9)
        above.axis("off")
        below.axis("off")
    save(made, __file__)


if __name__ == "__main__":
    main()
