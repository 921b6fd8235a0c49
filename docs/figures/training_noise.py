"""Where there is something to learn, and where training looks (the paper's figure 5a)."""

import jax
import numpy as np
from drawing import BLUE, GREY, ORANGE, figure, save

from edm_jax import denoiser, ideal, normal, objectives, preconditioning, sample_keys
from edm_jax.data import archive

SIGMA_DATA, WIDTH = 0.75, 0.1  # of the digits, and of the Gaussian around each


def losses(levels: np.ndarray, count: int = 128) -> np.ndarray:
    """The weighted loss before training and the least there can be, [2, levels].

    The data are the digits of the package with noise of deviation WIDTH, so that their ideal
    denoiser is that of a mixture. Before training the network is the zero function.
    """
    images = archive.load("digits").images.reshape(-1, 64).astype(np.float32) / 127.5 - 1
    widths, weights = np.full(len(images), WIDTH, np.float32), np.ones(len(images), np.float32)
    ideal_denoiser = ideal.mixture(images, widths, weights)
    untrained = denoiser(lambda x, c_noise: 0.0 * x, preconditioning.edm(sigma_data=SIGMA_DATA))
    y = images[::14][:count] + WIDTH * normal(sample_keys(range(count)), (64,))
    noise = normal(sample_keys(range(count, 2 * count)), (64,))
    weight = objectives.edm_weight(SIGMA_DATA)

    @jax.jit
    def mean_losses(sigma):
        loss = lambda denoise: objectives.loss(denoise, y, sigma, noise, weight).mean()
        return loss(untrained), loss(ideal_denoiser)

    return np.array([mean_losses(np.float32(level)) for level in levels]).T


def main() -> None:
    """Draws the losses before and at the end of what can be learned, and the density of ln σ."""
    levels = np.geomspace(0.005, 100.0, 40)
    before, least = losses(levels)
    made, axes = figure(1, 1, width=6.5, height=3.0)
    (ax,) = axes[0]
    ax.semilogx(levels, before, color=GREY, label="loss before training")
    ax.semilogx(levels, least, color=BLUE, label="the least loss there can be")
    density = np.exp(-((np.log(levels) + 1.2) ** 2) / (2 * 1.2**2))
    ax.fill_between(levels, 0, density / 2, color=ORANGE, alpha=0.35, label="σ drawn in training")
    ax.set(ylim=(0, 1.9), xlabel="σ", ylabel="weighted loss")
    ax.legend(frameon=False, loc="upper right")
    save(made, __file__)


if __name__ == "__main__":
    main()
