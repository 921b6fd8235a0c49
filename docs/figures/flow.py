"""Noise flows to data: points in the plane at five noise levels, by Heun's method."""

import numpy as np
from drawing import BLUE, ORANGE, drawn, figure, plane, save

LEVELS = 80.0, 2.0, 0.5, 0.2, 0.0


def main() -> None:
    """Draws the points at unit variance, and in orange what the denoiser makes of them."""
    denoise, _ = plane()
    _, states, sigmas = drawn(denoise, 800)
    made, axes = figure(1, len(LEVELS), width=10.0, height=2.3)
    for ax, level in zip(axes[0], LEVELS):
        row = int(np.abs(sigmas - level).argmin())
        x, sigma = states[row], sigmas[row]
        ax.scatter(*(x / np.sqrt(1 + sigma**2)).T, s=1.5, color=BLUE)
        if sigma > 0:
            ax.scatter(*np.asarray(denoise(x, np.float32(sigma))).T, s=1, color=ORANGE, alpha=0.6)
        ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), xticks=[], yticks=[], title=f"σ = {sigma:.2g}")
        ax.set_aspect("equal")
    save(made, __file__)


if __name__ == "__main__":
    main()
