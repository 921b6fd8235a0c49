"""What the figures have in common: their data in closed form, colours, and where they are saved."""

import pathlib
import sys

import jax
import numpy as np
from matplotlib.figure import Figure

from edm_jax import ideal, normal, sample, sample_keys, samplers, timesteps

BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#d2691e", "#3a8a4d", "#8a8a8a"

# Two peaks on a line.
PEAKS = np.array([[-1.0], [1.0]]), np.array([0.08, 0.08]), np.array([0.5, 0.5])

# A spiral of two arms in the plane: narrow Gaussians, the arms of equal weight.
_TURN = np.linspace(0.6, 3.0, 24)
ARM = np.stack([_TURN * np.cos(_TURN), _TURN * np.sin(_TURN)], 1) / 2.4
SPIRAL = np.concatenate([ARM, -ARM])


def plane(means=SPIRAL, std: float = 0.06):
    """The ideal denoiser of points around some means, and their log-density."""
    mixture = means, np.full(len(means), std), np.ones(len(means))
    return jax.jit(ideal.mixture(*mixture)), ideal.mixture_log_prob(*mixture)


def drawn(denoise, count: int, *, steps: int = 40, sigma_max: float = 80.0):
    """Heun's method: samples [count, 2], states at every level [steps + 1, count, 2], levels."""
    tableau = samplers.heun(timesteps.edm(steps, sigma_max=sigma_max))
    noise = normal(sample_keys(range(count)), (2,))
    run = jax.jit(lambda noise: sample(denoise, tableau, noise, trajectory=True))
    x0, states = run(noise)
    # Every second row is Heun's trial point at the end of a step.
    return np.asarray(x0), np.asarray([*states[:-1:2], x0]), np.append(tableau.sigma[::2], 0.0)


def figure(rows: int, columns: int, *, width: float = 8.0, height: float = 2.6, **options):
    """A figure and its axes, without the frame's upper and right lines."""
    made = Figure(figsize=(width, height), layout="constrained", dpi=100)
    axes = made.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return made, axes


def save(made, file: str) -> None:
    """Writes the figure of a script beside it, or into the folder that its command line names."""
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(file).parent)
    made.savefig(folder / f"{pathlib.Path(file).stem}.png")
