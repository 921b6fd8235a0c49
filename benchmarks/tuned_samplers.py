"""How near do tuned samplers come to the flow, beside the best fixed choice? On a mixture.

python benchmarks/tuned_samplers.py

Errors are the mean root mean square distance from the flow's end, on 128 samples that nothing was
chosen on. `edm-jax tune` prints the same of a model.
"""

import jax
import numpy as np

from edm_jax import ideal, tuning

MEANS = np.array([[1.0, 0.2], [-0.6, 0.9], [-0.3, -1.1], [0.4, -0.2]])
STDS, WEIGHTS = np.array([0.1, 0.2, 0.15, 0.1]), np.array([0.4, 0.3, 0.2, 0.1])


def main() -> None:
    """Prints a row for each number of calls."""
    denoise = jax.jit(ideal.mixture(MEANS, STDS, WEIGHTS))
    noise = np.random.default_rng(0).standard_normal((256, 2))
    print("| calls | best fixed choice | error | searched | learned |\n|---|---|---|---|---|")
    for tuned in tuning.tune_each(denoise, noise, [5, 6, 8, 10]):
        errors = (tuned.fixed.error, tuned.searched.error, tuned.learned.error)
        cells = [str(tuned.nfe), tuned.fixed.name, *(f"{error:.4f}" for error in errors)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    with jax.enable_x64(True):
        main()
