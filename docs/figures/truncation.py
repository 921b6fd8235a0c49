"""Where a step of each length goes wrong: local error against σ (the paper's figures 2 and 13)."""

import jax
import numpy as np
from drawing import BLUE, GREEN, ORANGE, figure, plane, save

from edm_jax import normal, sample, sample_keys, samplers, timesteps

STEPS, FINE = 18, 32
GRIDS = {
    "EDM, ρ = 7": (timesteps.edm(STEPS), BLUE),
    "EDM, ρ = 3": (timesteps.edm(STEPS, rho=3.0), ORANGE),
    "geometric": (timesteps.exponential(STEPS), GREEN),
}


def errors(sigmas: np.ndarray, solver, count: int = 256) -> np.ndarray:
    """The root mean square error of each step that begins on the exact flow, [N - 1].

    The flow is followed by Heun's method with many steps between any two levels.
    """
    denoise, _ = plane()
    x = sigmas[0] * normal(sample_keys(range(count)), (2,))
    step = jax.jit(lambda tableau, x: sample(denoise, tableau, start=x))
    found = []
    for high, low in zip(sigmas[:-2], sigmas[1:-1]):
        exact = step(samplers.heun(np.geomspace(high, low, FINE + 1)), x)
        taken = step(solver(np.array([high, low])), x)
        found.append(float(np.sqrt(np.mean((taken - exact) ** 2))))
        x = exact
    return np.array(found)


@jax.enable_x64(True)
def main() -> None:
    """Draws the error of a step of Euler's and of Heun's method."""
    made, axes = figure(1, 2, sharey=True, height=3.0)
    for ax, solver in zip(axes[0], (samplers.euler, samplers.heun)):
        name = solver.__name__.capitalize()
        for label, (sigmas, colour) in GRIDS.items():
            ax.loglog(sigmas[:-2], errors(sigmas, solver), ".-", color=colour, label=label)
        ax.set(xlabel="σ where the step begins", title=f"{name}, {STEPS} steps")
    axes[0, 0].set_ylabel("error of the step")
    axes[0, 0].legend(frameon=False)
    save(made, __file__)


if __name__ == "__main__":
    main()
