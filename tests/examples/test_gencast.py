"""The example of GenCast's sampler is the published loop; its noise is isotropic on the sphere."""

import math
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import randomness, sample, samplers

FILE = pathlib.Path(__file__).parents[2] / "examples" / "gencast.py"
EXAMPLE = runpy.run_path(str(FILE))
KEYS = randomness.sample_keys(range(2))
LIKE = {"levels": (2, 3, 5, 8), "surface": (2, 5, 8)}


def denoise(x, sigma):
    """Not linear, and every field sees the others."""
    surface, levels = x["surface"], x["levels"]
    mean = jnp.tanh(levels.mean(axis=1) / (1 + sigma))
    return {
        "surface": surface / (1 + sigma**2) + 0.1 * mean,
        "levels": levels / (1 + sigma**2) + 0.1 * jnp.tanh(surface / (1 + sigma))[:, None],
    }


def literal(noise, z, s_churn=2.5):
    """The published loop (Price et al. 2023), without its call at sigma = 0."""
    fraction = np.arange(20) / 19
    levels = (80 ** (1 / 7) + fraction * (0.03 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    x, calls = jax.tree.map(lambda n: levels[0] * n, noise), 0
    for i, (level, after) in enumerate(zip(levels, [*levels[1:], 0.0])):
        gamma = min(s_churn / 20, math.sqrt(2) - 1) if level >= 0.75 else 0.0
        high = level * (1 + gamma)
        added = 1.05 * level * math.sqrt(gamma * (2 + gamma))
        x = jax.tree.map(lambda x, n, a=added: x + a * n, x, z(i))
        blend = lambda part, x, d: part * x + (1 - part) * d
        denoised, calls = denoise(x, high), calls + 1
        if after:
            middle = math.sqrt(high * after)
            inner = jax.tree.map(lambda x, d, p=middle / high: blend(p, x, d), x, denoised)
            denoised, calls = denoise(inner, middle), calls + 1
        x = jax.tree.map(lambda x, d, p=after / high: blend(p, x, d), x, denoised)
    return x, calls


@pytest.mark.slow
def test_the_sampler_is_the_published_loop_on_a_tree_of_fields():
    tableau = EXAMPLE["sampler"]()
    with jax.enable_x64(True):
        like = {name: jnp.zeros(shape) for name, shape in LIKE.items()}
        draw = jax.jit(lambda keys: EXAMPLE["sphere_noise"](keys, like))
        noise = draw(randomness.sample_keys([7, 8]))
        drawn = lambda noise: sample(denoise, tableau, noise, KEYS, draw=EXAMPLE["sphere_noise"])
        result = jax.jit(drawn)(noise)
        # Two rows a step, and the draw for the start is that of the first step.
        expected, calls = literal(noise, lambda i: draw(randomness.fold_in(KEYS, 2 * i)))
        assert tableau.nfe == calls == 39
        for name in LIKE:
            np.testing.assert_allclose(result[name], expected[name], rtol=0, atol=1e-12)
        without = EXAMPLE["sampler"](samplers.Churn())
        plain = jax.jit(lambda noise: sample(denoise, without, noise))(noise)
        expected, _ = literal(noise, lambda i: jax.tree.map(jnp.zeros_like, noise), s_churn=0.0)
        for name in LIKE:
            np.testing.assert_allclose(plain[name], expected[name], rtol=0, atol=1e-12)
    assert EXAMPLE["sampler"](samplers.Churn()) == samplers.dpmpp_2s(EXAMPLE["LEVELS"])


@pytest.mark.slow
def test_the_noise_is_isotropic_and_of_variance_1_at_every_latitude():
    """By the addition theorem its covariance is sum_n P_n(cos angle) / L, exactly."""
    for latitudes, longitudes in ((7, 12), (19, 36), (31, 60)):
        table, waves = EXAMPLE["harmonics"](latitudes, longitudes)
        every = np.einsum("nmt,cmp->tpcnm", table, waves).reshape(latitudes * longitudes, -1)
        covariance = every @ every.T
        np.testing.assert_allclose(np.diag(covariance), 1.0, rtol=1e-12)
        angle = np.linspace(0, np.pi, latitudes)[:, None]
        turn = 2 * np.pi * np.arange(longitudes) / longitudes
        parts = np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle) + 0 * turn
        points = np.stack(parts, axis=-1).reshape(-1, 3)
        degrees = longitudes // 2
        legendre = np.polynomial.legendre.legval(points @ points.T, np.ones(degrees) / degrees)
        np.testing.assert_allclose(covariance, legendre, atol=1e-12)


@pytest.mark.slow
def test_drawn_noise_has_the_variance_of_the_sphere():
    keys = randomness.sample_keys(range(400))
    like = {"levels": jnp.zeros((400, 4, 7, 12)), "surface": jnp.zeros((400, 7, 12))}
    drawn = jax.jit(lambda keys: EXAMPLE["sphere_noise"](keys, like))(keys)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, like)
    np.testing.assert_allclose(np.var(drawn["levels"], axis=(0, 1)), 1.0, atol=0.15)
    together = np.mean(drawn["levels"] * drawn["surface"][:, None], axis=(0, 1))
    np.testing.assert_allclose(together, 0.0, atol=0.15)
    single = jax.tree.map(lambda a: a[:1], like)
    alone = jax.jit(lambda keys: EXAMPLE["sphere_noise"](keys, single))(keys[5:6])
    np.testing.assert_allclose(alone["levels"][0], drawn["levels"][5], atol=1e-5)


@pytest.mark.slow
def test_a_forecast_and_what_the_command_prints(capsys):
    like = {name: jnp.zeros(shape) for name, shape in LIKE.items()}
    drawn = jax.jit(lambda keys: EXAMPLE["forecast"](denoise, like, keys))(KEYS)
    assert jax.tree.map(jnp.shape, drawn) == LIKE
    assert all(np.isfinite(field).all() for field in drawn.values())
    runpy.run_path(str(FILE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "39 calls" in printed and "[0.983 1.024 1.029 1.03 ]" in printed
    assert len(FILE.read_text().splitlines()) < 80
