"""How wrong is each method of inverse problems? Against the exact posterior of a Gaussian prior.

    python benchmarks/posteriors.py

The prior, the operators (a mask, 2 x 2 means, a blur) and the measurements are those of
tests/golden/inverse.npz: 16 dimensions, sigma_y = 0.05. Each entry is

    |mean - exact| / sqrt(tr exact cov),  |cov - exact| / |exact|,  sqrt(tr cov / tr exact cov)

Denoisers that are affine in x have exact moments here: no samples are drawn. The others, and the
samplers of `inverse.steps`, are measured on draws.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import ideal, inverse, normal, sample, sample_keys, samplers, timesteps

GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "inverse.npz"
TASKS = ("mask", "box", "blur")
SHAPE = (4, 4, 1)
DRAWS = 4000
# (name, particles, options)
FILTERS = [
    ("`particle_filter`, 4 particles", 4, {}),
    ("`particle_filter`, 32 particles", 32, {}),
    ("`particle_filter`, 32, no gradient", 32, {"gradient": False}),
]


def problem(g, task, clean):
    """(operator, one measurement [m], exact mean [16], exact covariance [16, 16])."""
    after = "posterior_clean" if clean else "posterior"
    operator = inverse.from_matrix(g[f"A/{task}"], SHAPE)
    y = g[f"y_clean/{task}"] if clean else g[f"y/{task}"]
    return operator, jnp.asarray(y), g[f"{after}/mean/{task}"], g[f"{after}/cov/{task}"]


def affine_moments(denoise, tableau):
    """Mean and covariance of what a tableau of one register makes of an affine denoiser."""
    size = int(np.prod(SHAPE))
    probes = jnp.concatenate([jnp.zeros((1, size)), jnp.eye(size)]).reshape(-1, *SHAPE)
    answers = jax.jit(lambda sigma: denoise(probes, sigma).reshape(size + 1, size))
    mean = np.zeros(size)
    cov = (tableau.start**2).sum() * np.eye(size)
    for sigma, ((old, new, noise),) in zip(tableau.sigma, tableau.weights):
        values = np.asarray(answers(sigma))
        matrix = old * np.eye(size) + new * (values[1:] - values[0]).T
        mean, cov = matrix @ mean + new * values[0], matrix @ cov @ matrix.T
        cov = cov + noise**2 * np.eye(size)
    return mean, cov


def drawn_moments(denoise, sampler):
    keys = sample_keys(range(DRAWS))
    noise = normal(keys, SHAPE, dtype=jnp.float64)
    run = jax.jit(lambda n, k: sample(denoise, sampler, n, k))
    images = np.asarray(run(noise, keys)).reshape(DRAWS, -1)
    return images.mean(axis=0), np.cov(images.T)


def filtered_moments(prior, operator, y, sigma_y, particles, **options):
    """Of one particle of each of DRAWS filters."""
    rows = jnp.broadcast_to(y, (DRAWS, *y.shape))
    potential = inverse.log_likelihood(operator, rows, sigma_y, prior_variance=1.0)
    keys, own = sample_keys(range(DRAWS)), sample_keys(range(DRAWS, 2 * DRAWS))

    @jax.jit
    def run(keys, own):
        noise = normal(keys, (particles, *SHAPE), dtype=jnp.float64)
        tableau = samplers.ddpm(karras())
        return inverse.particle_filter(prior, potential, tableau, noise, keys, **options).draw(own)

    images = np.asarray(run(keys, own)).reshape(DRAWS, -1)
    return images.mean(axis=0), np.cov(images.T)


def errors(moments, mean, cov):
    got, spread = moments
    size = np.sqrt(np.trace(cov))
    return (
        np.linalg.norm(got - mean) / size,
        np.linalg.norm(spread - cov) / np.linalg.norm(cov),
        np.sqrt(np.trace(spread)) / size,
    )


def karras(steps=100):
    return timesteps.edm(steps, sigma_min=0.002, sigma_max=80.0)


def every_tenth():
    """Every tenth level of DDPM's linear 1000, for the samplers that count in its frame."""
    return timesteps.ddpm(100)


BY_DEFAULT = "`mmps` by `ipndm`, 18 evaluations"


def by_default(prior, operator, y, sigma_y):
    """Moments of what `edm-jax restore` draws unless it is told otherwise."""

    def denoise(x, sigma):
        return inverse.mmps(prior, operator, jnp.broadcast_to(y, (len(x), *y.shape)), sigma_y)(
            x, sigma
        )

    return drawn_moments(denoise, samplers.ipndm(timesteps.edm(18)))


def denoisers(prior, operator, y, sigma_y):
    """name -> (conditioned denoiser of any batch, whether it is affine in x)."""
    row = lambda x: jnp.broadcast_to(y, (len(x), *y.shape))

    def given(rule, *noise, **options):
        return lambda x, sigma: rule(prior, operator, row(x), *noise, **options)(x, sigma)

    one = {"iterations": 1}
    return {
        "`mmps`, converged": (given(inverse.mmps, sigma_y, solver="cg", iterations=40), True),
        "`mmps`, 1 iteration of CG": (given(inverse.mmps, sigma_y, solver="cg", **one), False),
        "`mmps`, 1 iteration of GMRES": (given(inverse.mmps, sigma_y, **one), False),
        "`mmps`": (given(inverse.mmps, sigma_y), False),
        "`pigdm`": (given(inverse.pigdm, sigma_y), True),
        "`jfps`, prior_variance 0.25": (given(inverse.jfps, sigma_y, prior_variance=0.25), True),
        "`diffpir`, strength 10": (given(inverse.diffpir, sigma_y), True),
        "`diffpir`, strength 1": (given(inverse.diffpir, sigma_y, strength=1.0), True),
        "`tmpd`": (given(inverse.tmpd, sigma_y), True),
        "`dps`": (given(inverse.dps, sigma_y), True),
    }


def step_rules(operator, y, sigma_y, clean):
    """name -> sampler of DRAWS samples."""
    rows = jnp.broadcast_to(y, (DRAWS, *y.shape))
    steps, vp = inverse.steps, every_tenth()
    ve = timesteps.exponential(1000, sigma_min=0.01, sigma_max=50.0)
    if not clean:
        return {
            "`steps.dps`, step_size 0.3, 1000 steps": steps.dps(
                operator, rows, timesteps.ddpm(1000), step_size=0.3
            ),
            "`steps.ddrm`, 20 steps": steps.ddrm(operator, rows, timesteps.ddpm(20), sigma_y),
            "`steps.ddrm`, 100 steps": steps.ddrm(operator, rows, vp, sigma_y),
        }
    return {
        "`steps.pigdm`": steps.pigdm(operator, rows, vp),
        "`steps.pigdm`, no adaptive weight": steps.pigdm(operator, rows, vp, adaptive_weight=False),
        "`steps.ddnm`": steps.ddnm(operator, rows, vp),
        "`steps.ddnm`, eta 0": steps.ddnm(operator, rows, vp, eta=0.0),
        "`steps.repaint`, 1 x 1": steps.repaint(operator, rows, vp, travel_repeats=1),
        "`steps.repaint`, 10 x 10": steps.repaint(operator, rows, vp),
        "`steps.score_sde`": steps.score_sde(operator, rows, ve),
        "`steps.score_sde`, no corrector": steps.score_sde(operator, rows, ve, corrector_steps=0),
    }


def table(rows, title):
    print(f"\n| {title} | " + " | ".join(TASKS) + " |\n|" + "---|" * (len(TASKS) + 1))
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


def shown(values):
    if max(values) > 1e3:
        return "diverges"
    return " / ".join(f"{value:.2g}" for value in values)


def main():
    with np.load(GOLDEN) as arrays:
        g = dict(arrays)
    prior = ideal.gaussian(g["mu"].reshape(SHAPE), covariance=(g["C"] + g["C"].T) / 2)
    sigma_y = float(g["sigma_y"])
    noisy, clean = {}, {}
    for task in TASKS:
        operator, y, mean, cov = problem(g, task, clean=False)
        tableau = samplers.ddpm(karras())
        alone = shown(errors((g["mu"], g["C"]), mean, cov))
        noisy.setdefault("the prior alone", []).append(alone)
        for name, (denoise, affine) in denoisers(prior, operator, y, sigma_y).items():
            moments = affine_moments if affine else drawn_moments
            cell = shown(errors(moments(denoise, tableau), mean, cov))
            noisy.setdefault(name, []).append(cell)
        for name, particles, options in FILTERS:
            found = filtered_moments(prior, operator, y, sigma_y, particles, **options)
            noisy.setdefault(name, []).append(shown(errors(found, mean, cov)))
        cell = shown(errors(by_default(prior, operator, y, sigma_y), mean, cov))
        noisy.setdefault(BY_DEFAULT, []).append(cell)
        for name, sampler in step_rules(operator, y, sigma_y, clean=False).items():
            cell = shown(errors(drawn_moments(prior, sampler), mean, cov))
            noisy.setdefault(name, []).append(cell)
        if task == "blur":  # y determines x: there is nothing to draw
            continue
        operator, y, mean, cov = problem(g, task, clean=True)
        cell = shown(errors(by_default(prior, operator, y, 0.0), mean, cov))
        clean.setdefault(BY_DEFAULT, []).append(cell)
        for name, sampler in step_rules(operator, y, sigma_y, clean=True).items():
            cell = shown(errors(drawn_moments(prior, sampler), mean, cov))
            clean.setdefault(name, []).append(cell)
    table(noisy, "sigma_y = 0.05")
    table({name: [*cells, ""] for name, cells in clean.items()}, "no noise")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
