"""The example of autoguidance in the plane: its distribution is the published one; it learns."""

import pathlib
import runpy
import sys

import jax
import numpy as np
import pytest

from edm_jax import randomness

FILE = pathlib.Path(__file__).parents[2] / "examples" / "autoguidance.py"
EXAMPLE = runpy.run_path(str(FILE))
A, BOTH = EXAMPLE["trees"]("A"), EXAMPLE["trees"]("AB")


def test_the_trees_are_the_published_ones():
    assert len(A.weight) == 1016 and len(BOTH.weight) == 2032
    np.testing.assert_allclose(A.weight[[0, -1]], [0.0321495347, 0.000164159472], rtol=1e-7)
    means = [[0.0213441085, 0.0633343086], [0.481763899, -0.596559763]]
    np.testing.assert_allclose(A.mean[[0, -1]], means, rtol=2e-7)
    first = [[3.46759771e-4, 1.03578430e-4], [1.03578430e-4, 3.85146181e-4]]
    np.testing.assert_allclose(A.covariance[0], first, rtol=1e-7)
    # Both together have a deviation of 0.5 on each axis.
    mean = BOTH.weight @ BOTH.mean
    second = BOTH.weight @ (BOTH.mean**2 + np.diagonal(BOTH.covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(mean, 0.0, atol=1e-3)
    np.testing.assert_allclose(np.sqrt(second - mean**2), 0.4999, atol=5e-5)


@pytest.mark.parametrize(
    "mixture, x, sigma, nats",
    [
        (A, (0.3, 0.3), 0.1, 0.93046260),
        (A, (0.45, 1.22), 0.1, -1.3272158),
        (A, (0.3, 0.3), 0.0, 2.0693705),
        (BOTH, (1.0, 0.2), 1.0, -2.4664321),
    ],
    ids=["A 0.1", "A far 0.1", "A 0", "AB 1"],
)
def test_its_log_density_is_the_published_one(mixture, x, sigma, nats):
    with jax.enable_x64(True):
        found = jax.jit(EXAMPLE["log_density"](mixture))(np.array([x]), sigma)
    np.testing.assert_allclose(found, nats, rtol=1e-6)


@pytest.mark.slow
def test_its_density_has_integral_1_and_the_entropy_of_what_is_drawn():
    sigma, step = 0.3, 0.25
    line = np.arange(-3.0, 4.0, step)  # of so smooth a function a sum is the integral
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    log_p = jax.jit(EXAMPLE["log_density"](A))
    with jax.enable_x64(True):
        nats = np.asarray(log_p(grid, sigma))
    share = np.exp(nats) * step**2
    assert share.sum() == pytest.approx(1.0, abs=1e-8)

    @jax.jit
    def drawn(keys):
        for_points, for_noise = randomness.split(keys)
        return EXAMPLE["draw"](A, for_points) + sigma * randomness.normal(for_noise, (2,))

    points = np.asarray(drawn(randomness.sample_keys(range(4000))))
    found = np.asarray(log_p(points, sigma))
    error = found.std() / np.sqrt(len(found))
    assert found.mean() == pytest.approx(share @ nats, abs=3 * error) and error < 0.02
    np.testing.assert_allclose(points.mean(0), A.weight @ A.mean, atol=0.03)


def test_its_denoiser_is_the_posterior_mean():
    """Of every Gaussian m + C (C + sigma^2)^-1 (x - m), by its share; a level for each point."""
    x = np.random.default_rng(0).normal(size=(130, 2)) * 0.8
    sigma = np.geomspace(0.05, 5.0, 130)
    noisy = A.covariance + sigma[:, None, None, None] ** 2 * np.eye(2)
    away = x[:, None] - A.mean
    pulled = np.einsum("bkij,bkj->bki", np.linalg.inv(noisy), away)
    logits = np.log(A.weight / np.sqrt(np.linalg.det(noisy))) - 0.5 * (away * pulled).sum(-1)
    share = np.exp(logits - logits.max(1, keepdims=True))
    posterior = A.mean + np.einsum("kij,bkj->bki", A.covariance, pulled)
    exact = np.einsum("bk,bki->bi", share / share.sum(1, keepdims=True), posterior)
    with jax.enable_x64(True):
        found = jax.jit(EXAMPLE["ideal_denoiser"](A))(x, sigma)
    np.testing.assert_allclose(found, exact, atol=1e-10)


def test_a_fresh_network_knows_the_deviation_alone():
    x, sigma = np.float32([[0.3, -1.0], [2.0, 0.5]]), np.float32([0.1, 2.0])
    for width, count in ((64, 16_641), (32, 4_225)):
        network = EXAMPLE["Network"](width)
        shapes = jax.eval_shape(network.init, jax.random.key(0), x, sigma)["params"]
        assert sum(p.size for p in jax.tree.leaves(shapes)) == count

    @jax.jit
    def of_a_fresh_one(key):
        params = network.init(key, x, sigma)["params"]
        return EXAMPLE["Model"](params, network).denoiser()(x, sigma)

    found = of_a_fresh_one(jax.random.key(0))
    np.testing.assert_allclose(found, 0.25 / (0.25 + sigma[:, None] ** 2) * x, rtol=1e-5)


@pytest.mark.slow
def test_the_command_trains_three_models_and_compares_them(tmp_path, monkeypatch, capsys):
    picture, asked = tmp_path / "trees.png", []
    monkeypatch.setattr(sys, "argv", ["x", str(picture), "--steps=16", "--batch=64"])
    example = runpy.run_path(str(FILE))
    network = example["Network"](8)
    inputs = np.zeros((1, 2), np.float32), np.ones(1, np.float32)
    fresh = jax.jit(network.init)(jax.random.key(0), *inputs)["params"]

    def train(*arguments, **named):
        asked.append((*arguments, *named.values()))
        return example["Model"](fresh, network), np.ones(asked[-1][2])

    everything = example["compared"]
    kept = ("no guidance", "autoguidance, scale 3", "classifier-free, scale 4")
    example["main"].__globals__.update(
        COUNT=64,
        AXIS=np.linspace(-2.5, 2.5, 40),
        train=train,
        compared=lambda *three: {name: everything(*three)[name] for name in kept},
    )
    example["main"]()
    assert asked == [("A", 64, 16, 0, 64), ("A", 32, 2, 0, 64), ("AB", 32, 2, 0, 64)]
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    printed = capsys.readouterr().out
    assert "seed 0, guide AB: loss 1.0000" in printed
    for name in ("data", *kept):
        assert f"\n{name} " in printed


@pytest.mark.slow
def test_what_is_trained_is_normalised_and_gets_nearer():
    model, losses = EXAMPLE["train"]("A", 16, 60, 0, batch=256)
    assert losses[-5:].mean() < 0.75 * losses[:5].mean()
    # The average keeps to the last steps, which begin at unit rms and move a little.
    rms = np.sqrt(np.mean(np.square(model.params["Dense_1"]["kernel"]), axis=0))
    np.testing.assert_allclose(rms, 1.0, atol=0.02)
