"""One coordinate is known, the other is drawn: the exact posterior, and what three methods draw."""

import jax.numpy as jnp
import numpy as np
from drawing import BLUE, GREY, SPIRAL, drawn, figure, plane, save

from edm_jax import inverse

KNOWN, SIGMA_Y, COUNT = 0.35, 0.05, 1500


def posterior(x: np.ndarray) -> np.ndarray:
    """The density of the second coordinate given the first, y = KNOWN + SIGMA_Y n; exact."""
    _, log_prob = plane()
    first = np.linspace(KNOWN - 6 * SIGMA_Y, KNOWN + 6 * SIGMA_Y, 61)
    given = np.exp(-0.5 * ((first - KNOWN) / SIGMA_Y) ** 2)
    places = np.stack(np.meshgrid(first, x, indexing="ij"), -1).reshape(-1, 2)
    joint = np.exp(np.asarray(log_prob(jnp.asarray(places), 1e-3))).reshape(len(first), len(x))
    density = (joint * given[:, None]).sum(0)
    return density / (density.sum() * (x[1] - x[0]))


def draws(method: str) -> np.ndarray:
    """Second coordinates of samples by a method."""
    denoise, _ = plane()
    operator = inverse.mask([True, False])
    y = jnp.full((COUNT, 1), KNOWN)
    noise_free = method == "projection"
    given = (operator, y) if noise_free else (operator, y, SIGMA_Y)
    return drawn(getattr(inverse, method)(denoise, *given), COUNT)[0][:, 1]


def main() -> None:
    """Draws the spiral with what is known, and a histogram beside the density for each method."""
    made, axes = figure(1, 4, width=10.0, height=2.6)
    axes[0, 0].scatter(*SPIRAL.T, s=10, color=GREY)
    axes[0, 0].axvspan(KNOWN - 2 * SIGMA_Y, KNOWN + 2 * SIGMA_Y, color=BLUE, alpha=0.3)
    axes[0, 0].set(title="data, and what is known", aspect="equal")
    x = np.linspace(-1.6, 1.6, 321)
    for ax, method in zip(axes[0, 1:], ("mmps", "pigdm", "projection")):
        ax.hist(draws(method), bins=64, range=(-1.6, 1.6), density=True, color=BLUE, alpha=0.6)
        ax.plot(x, posterior(x), color="black", lw=0.8)
        ax.set(title=method, yticks=[], xlabel="the other coordinate")
    save(made, __file__)


if __name__ == "__main__":
    main()
