"""Inpainting and colourisation of score SDEs: the numbers of the original, in float64."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problem import cases, images, near, prior, shared

from edm_jax import ideal, inverse, sample, sample_keys
from edm_jax.samplers import Tableau

pytestmark = pytest.mark.usefixtures("float64")
NAMES = [
    f"score_sde-{what}-{chain}"
    for what in ("inpaint", "color")
    for chain in (
        "ve-reverse_diffusion-none",
        "ve-reverse_diffusion-langevin",
        "vp-euler_maruyama-none",
    )
]


@pytest.fixture(scope="module")
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def g(golden):
    return golden("inverse.npz")


def chain(case):
    """(predictor, scale of its result): the original's steps from its times, in the frame x / s.

    Its times end at eps and its steps below: neither is a step of `samplers` on one grid.
    """
    N, low, high = case["N"], case["beta_min"], case["beta_max"]
    t = np.linspace(1.0, case["eps"], N)
    if case["sde"] == "ve":
        sigma = case["sigma_min"] * (case["sigma_max"] / case["sigma_min"]) ** t
        levels = np.geomspace(case["sigma_min"], case["sigma_max"], N)[::-1]
        jump = levels**2 - np.append(levels[1:], 0.0) ** 2
        weights, s = (1 - jump / sigma**2, jump / sigma**2, np.sqrt(jump)), np.ones(N)
    else:
        s = np.exp(-0.25 * t**2 * (high - low) - 0.5 * t * low)
        deviation, beta = np.sqrt(1 - s**2), low + t * (high - low)
        sigma, after = deviation / s, np.append(s[1:], s[-1])
        keep = 1 + (0.5 * beta - beta / deviation**2) / N
        weights = keep * s / after, beta * s / deviation**2 / N / after, np.sqrt(beta / N) / after
    rows = np.stack(weights, axis=-1)[:, None]
    return Tableau(np.array([[sigma[0], 0.0]]), sigma, rows), s


def given(monkeypatch, rows):
    """Puts draws in place of random ones: name -> [level, ...] in the order of their use."""
    steps = 2 if "corrector" in rows else 1  # evaluations a level, counted from 1

    def of_step(index, shape, dtype):
        level, step = (index - 1) // steps, (index - 1) % steps
        predicted = jnp.asarray(rows["predictor"])[level]
        if steps == 1:
            return predicted
        return jnp.where(step == 0, jnp.asarray(rows["corrector"])[level], predicted)

    def of_known(index, like):
        return jnp.asarray(rows["known"])[(index // 2 - 1) // steps, index % 2]

    same = lambda keys, index: index
    monkeypatch.setattr(
        "edm_jax.samplers.corrector.randomness", types.SimpleNamespace(fold_in=same, normal=of_step)
    )
    monkeypatch.setattr(
        "edm_jax.inverse.steps.inpainting.randomness",
        types.SimpleNamespace(normal_like=of_known),
    )
    # The original takes the mean of its batch, which couples the images.
    monkeypatch.setattr(
        "edm_jax.samplers.corrector._norm",
        lambda a: jnp.sqrt((a * a).sum((1, 2, 3), keepdims=True)).mean(0, keepdims=True),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_of_the_original(g, name, monkeypatch):
    (case,) = [c for c in cases(g, "score_sde") if c["name"] == name]
    colour = case["what"] == "color"
    shape = (2, 2, 3) if colour else (4, 4, 1)
    draws = images(shared(g, f"noise/{name}"), shape)
    draws = draws.reshape(case["N"], -1, *draws.shape[1:])
    rows: dict = {kind: draws[:, case["draws"].index(kind)] for kind in case["draws"]}
    rows["known"] = np.stack([draws[:, case["draws"].index("known")], draws[:, -1]], axis=1)
    latents = images(shared(g, f"prior_noise/{name}"), shape)
    if colour:
        covariance = (g["color/C"] + g["color/C"].T) / 2
        denoise = ideal.gaussian(g["color/mu"].reshape(shape), covariance=covariance)
        operator = inverse.gray(shape)
        y = operator(jnp.asarray(g["color/truth"])[None])
        # Known is the first of three channels: the mean, in an orthogonal basis.
        basis = np.array([[1.0, -2.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, -1.0]])
        basis /= np.linalg.norm(basis, axis=0)
        rows["known"] = rows["known"] @ basis.T
        latents = latents * [0.0, 1.0, 1.0]  # the original masks its start before the basis
    else:
        denoise = prior(g)
        known = g["mask"].reshape(shape) > 0
        operator = inverse.mask(known)
        y = jnp.asarray(g["known"])[None, g["mask"] > 0]
        latents = latents * ~known
    tableau, s = chain(case)
    if case["sde"] == "vp":
        latents = latents / (s[0] * tableau.sigma[0])
    given(monkeypatch, rows)
    loop = inverse.steps.score_sde(
        operator,
        jnp.repeat(y, 2, axis=0),
        np.append(tableau.sigma, 0.0),
        predictor=tableau,
        corrector_steps=int(case["corrector"] == "langevin"),
    )
    run = jax.jit(lambda noise: sample(denoise, loop, noise, sample_keys([0, 1])))
    # The basis of the original has seven digits.
    near(s[-1] * run(latents), g[f"out/{name}"], 2e-7 if colour else 1e-12, name)
