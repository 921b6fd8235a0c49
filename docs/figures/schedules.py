"""σ(t) and s(t) bend the paths from noise to data; the end points stay (the paper's figure 3)."""

import jax
import numpy as np
from drawing import BLUE, PEAKS, figure, save

from edm_jax import ideal, sample, samplers, schedules, timesteps

RANGE = 0.002, 80.0
PROCESSES = {
    "VP": (schedules.vp_from_range(*RANGE), 1.0),
    "VE: σ = √t": (schedules.ve(), 9.0),
    "EDM: σ = t": (schedules.edm(), 3.0),
}


def paths(count: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Paths of the flow [K, count] in the frame of x / s, and their levels [K]."""
    denoise = ideal.mixture(*map(np.float32, PEAKS))
    tableau = samplers.heun(timesteps.edm(120, sigma_min=RANGE[0], sigma_max=RANGE[1]))
    noise = np.linspace(-2.0, 2.0, count, dtype=np.float32)[:, None]
    _, states = jax.jit(lambda x: sample(denoise, tableau, x, trajectory=True))(noise)
    return np.asarray(states)[:-1:2, :, 0], tableau.sigma[::2]


def main() -> None:
    """Draws density and paths over t for three processes."""
    found, sigmas = paths()
    log_prob = ideal.mixture_log_prob(*map(np.float32, PEAKS))
    made, axes = figure(1, 3, width=9.0)
    for ax, (name, (schedule, last)) in zip(axes[0], PROCESSES.items()):
        t = np.linspace(schedule.sigma_inv(RANGE[0]), last, 160)[1:]
        scale, sigma = schedule.scale(t), schedule.sigma(t)
        top = 3.0 if scale[-1] < 0.5 else 4.0
        x = np.linspace(-top, top, 200)
        density = [
            np.exp(log_prob(np.float32(x / s)[:, None], np.float32(v))) / s
            for s, v in zip(scale, sigma)
        ]
        shown = np.array(density).T
        ax.pcolormesh(t, x, shown / shown.max(0), cmap="Oranges", vmax=1.6, rasterized=True)
        times = np.array([schedule.sigma_inv(level) for level in sigmas])
        ax.plot(times, found * schedule.scale(times)[:, None], color=BLUE, lw=0.8)
        ax.set(xlim=(t[0], last), ylim=(-top, top), xlabel="t", title=name)
    axes[0, 0].set_ylabel("x")
    save(made, __file__)


if __name__ == "__main__":
    main()
