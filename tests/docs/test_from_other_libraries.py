"""The pages for those who come from another library: their Python runs, and gives its numbers.

Each page's blocks run in one namespace, in order; what the other library's program computes is
written out here as its loop.
"""

import functools
import math
import pathlib
import re

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import edm_jax
from edm_jax import ideal, normal, randomness, sample, sample_keys, samplers, score, tables

COUNT = 2  # images of a page's sixteen
PAGES = pathlib.Path(__file__).parents[2] / "docs" / "from"
DATA = ideal.mixture(np.array([[-0.6], [0.4]]), np.array([0.2, 0.3]), np.array([0.4, 0.6]))


@jax.jit
def elementwise(x, sigma):
    """An exact denoiser of images whose pixels are independent draws of a mixture."""
    flat = x.reshape(-1, 1)
    per_pixel = jnp.broadcast_to(
        jnp.asarray(sigma).reshape((-1,) + (1,) * (x.ndim - 1)), x.shape
    ).reshape(-1)
    return DATA(flat, per_pixel).reshape(x.shape)


def run(page: str, count: int = COUNT, **names) -> dict:
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block.replace("range(16)", f"range({count})"), names)
    return names


def host(call):
    """`call` with results of numpy, so that what is done with them compiles nothing."""
    return lambda *arguments: np.asarray(call(*arguments))


denoised = host(elementwise)


@functools.partial(jax.jit, static_argnums=2)
def _noise_of_row(keys, row, shape):
    return normal(randomness.fold_in(keys, row), shape)


noise_of_row = host(_noise_of_row)


def near(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_k_diffusion(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    images = 0.3 * host(normal)(sample_keys(range(100, 100 + COUNT)), (32, 32, 3))
    unlabelled = ideal.gaussian(0.0, 0.5)
    names = run("k_diffusion.md", denoise=elementwise, images=images, unlabelled=unlabelled)
    assert len(list(tmp_path.glob("0000??.png"))) == COUNT
    without = host(jax.jit(unlabelled))(images, 1.0)
    guided = without + 1.5 * (denoised(images, 1.0) - without)
    near(jax.jit(names["guided"])(images, 1.0), guided)
    sigmas, noise = names["sigmas"], np.asarray(names["noise"])
    ramp = np.linspace(0, 1, 20)
    karras = (14.6 ** (1 / 7) + ramp * (0.03 ** (1 / 7) - 14.6 ** (1 / 7))) ** 7
    np.testing.assert_allclose(sigmas, np.append(karras, 0.0), rtol=1e-12)

    x, old = sigmas[0] * noise, None
    for i, (s, t) in enumerate(zip(sigmas, sigmas[1:])):
        d = denoised(x, s)
        if t == 0 or old is None:
            slope = d
        else:
            r = math.log(sigmas[i - 1] / s) / math.log(s / t)
            slope = (1 + 1 / (2 * r)) * d - 1 / (2 * r) * old
        x, old = t / s * x - (t / s - 1) * slope, d
    near(names["run"](noise), x)

    x = np.asarray(names["noised"])
    for s, t in zip(sigmas[8:], sigmas[9:]):
        d = (x - denoised(x, s)) / s
        end = x + (t - s) * d
        x = x + (t - s) * 0.5 * (d + (end - denoised(end, t)) / t) if t > 0 else end
    near(names["edited"], x)
    # An image changes little from a low level, and much less than noise does.
    assert 0 < np.abs(np.asarray(names["edited"]) - images).mean() < 3 * sigmas[8]

    states, previews = np.asarray(names["states"]), names["previews"]
    near(previews, states[[0, 5, 10, 15]])
    near(states[0], sigmas[0] * noise)

    keys = sample_keys([7, 8, 9])
    x = sigmas[0] * host(normal)(keys, (32, 32, 3))
    for k, (s, t) in enumerate(zip(sigmas, sigmas[1:])):
        up = min(t, math.sqrt(t**2 * (s**2 - t**2) / s**2))
        down = math.sqrt(t**2 - up**2)
        x = x + (down - s) * (x - denoised(x, s)) / s
        x = x + up * noise_of_row(keys, k + 1, (32, 32, 3))
    near(names["drawn"], x)

    # Nearly the same picture, which another path would not give: the start decides little.
    coarse, fine = np.asarray(names["coarse"]), np.asarray(names["fine"])
    assert np.abs(coarse - fine).mean() < 0.4 * np.abs(coarse - np.roll(fine, 1, axis=0)).mean()


def predict_noise(levels):
    """The exact noise-predicting network of that data, asked as a DDPM: (x_t, index)."""

    @jax.jit
    def unet(x_t, index):
        sigma = jnp.asarray(levels, jnp.float32)[jnp.round(index).astype(int)]
        sigma = sigma.reshape((-1,) + (1,) * (x_t.ndim - 1))
        x = x_t * jnp.sqrt(1 + sigma**2)
        return (x - elementwise(x, sigma.reshape(-1))) / sigma

    return unet


@pytest.mark.slow
def test_diffusers():
    abar = tables.alphas_cumprod("scaled_linear")
    unet = predict_noise(tables.sigmas(abar))
    latents = 0.3 * host(normal)(sample_keys(range(100, 100 + COUNT)), (64, 64, 4))
    names = run("diffusers.md", unet=unet, latents=latents)
    keys, shape = names["keys"], (64, 64, 4)
    x = host(normal)(keys, shape)
    steps = np.arange(25)[::-1] * 40 + 1
    for k, step in enumerate(steps):
        a, previous = abar[step], abar[step - 40] if step > 40 else 1.0
        epsilon = host(unet)(x, np.full(COUNT, step))
        x0 = (x - math.sqrt(1 - a) * epsilon) / math.sqrt(a)
        deviation = 0.5 * math.sqrt((1 - previous) / (1 - a) * (1 - a / previous))
        x = math.sqrt(previous) * x0 + math.sqrt(1 - previous - deviation**2) * epsilon
        x = x + deviation * noise_of_row(keys, k + 1, shape)
    np.testing.assert_allclose(names["x0"], x, rtol=0, atol=1e-4)
    a = abar[steps[10]]
    noised = math.sqrt(a) * latents + math.sqrt(1 - a) * host(normal)(keys, shape)
    near(names["noised"], noised / math.sqrt(a))
    moved = lambda name: np.abs(np.asarray(names[name]) - latents).mean()
    assert moved("edited") < moved("x0")


@pytest.mark.slow
def test_generative_models():
    network = predict_noise(tables.sigmas(tables.alphas_cumprod("scaled_linear")))
    y = 0.3 * host(normal)(sample_keys(range(8)), (4, 4, 2))
    names = run("generative_models.md", network=network, y=y)
    denoise, sigmas, keys = host(jax.jit(names["denoise"])), names["sigmas"], names["keys"]
    shape = (64, 64, 4)
    x = math.sqrt(1 + sigmas[0] ** 2) * host(normal)(keys, shape)
    for k, (s, t) in enumerate(zip(sigmas, sigmas[1:])):
        gamma = min(4.0 / 30, math.sqrt(2) - 1) if 0.05 <= s <= 20.0 else 0.0
        high = s * (1 + gamma)
        x = x + 1.003 * math.sqrt(high**2 - s**2) * noise_of_row(keys, k, shape)
        x = x + (t - high) * (x - denoise(x, high)) / high
    np.testing.assert_allclose(names["x0"], x, rtol=0, atol=1e-4)
    sigma, noise = np.asarray(names["sigma"]), np.asarray(names["noise"])
    wide = sigma[:, None, None, None]
    weight = (wide**2 + 0.25) / (wide * 0.5) ** 2
    expected = (weight * (denoise(y + wide * noise, sigma) - y) ** 2).mean()
    np.testing.assert_allclose(names["value"], expected, rtol=1e-5)


@pytest.mark.slow
def test_diffrax():
    gaussian = ideal.gaussian(0.2, 0.5)
    names = run("diffrax.md", count=16, denoise=gaussian)
    schedule, noise = names["schedule"], names["noise"]

    def drift(t, x, args):  # the page's program before
        beta = 0.1 + 19.9 * t
        return -0.5 * beta * (x + score.scaled_score(gaussian, schedule)(x, t))

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(drift), diffrax.Heun(), t0=1.0, t1=1e-3, dt0=-0.999 / 100, y0=noise
    )
    noise, scale = np.asarray(noise), schedule.scale(1e-3)
    # The two frames make Heun's method two methods of order 2, with the same limit.
    for got in (
        names["x0"],
        np.asarray(solution.ys[0]) / scale,
        np.asarray(names["by_tolerance"]) / scale,
    ):
        sigma_0, sigma_1 = schedule.sigma(1.0), schedule.sigma(1e-3)
        spread = math.sqrt((0.25 + sigma_1**2) / (0.25 + sigma_0**2))
        start = noise * sigma_0 if got is names["x0"] else noise / schedule.scale(1.0)
        np.testing.assert_allclose(got, 0.2 + spread * (start - 0.2), rtol=0, atol=6e-3)
    assert float(schedule.scale(1.0) * schedule.sigma(1.0)) == pytest.approx(0.99998, abs=5e-6)
    mean, variance = samplers.moments(
        samplers.euler_maruyama(names["levels"], schedule=schedule), 0.2, 0.25
    )
    assert names["drawn"].shape == (16, 2)
    assert abs(float(np.asarray(names["drawn"]).mean()) - mean) < 4 * math.sqrt(variance / 32)


@pytest.mark.slow
def test_nvlabs_edm(monkeypatch):
    class Model:
        def denoiser(self, labels):
            assert labels is labels_given
            return elementwise

    labels_given = np.eye(10)[:COUNT]
    asked = []
    monkeypatch.setattr(edm_jax, "load", lambda path: asked.append(path) or Model())
    names = run("nvlabs_edm.md", class_labels=labels_given)
    assert asked == ["edm-cifar10-32x32-cond-vp.pkl"]
    i = np.arange(18)
    levels = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    x = levels[0] * np.asarray(names["latents"])
    for s, t in zip(levels, np.append(levels[1:], 0)):
        d = (x - denoised(x, s)) / s
        end = x + (t - s) * d
        x = x + (t - s) * (0.5 * d + 0.5 * (end - denoised(end, t)) / t) if t > 0 else end
    near(names["images"], x)
    assert names["stochastic"].nfe == 511 and names["stochastic"].stochastic
    ablated = names["ablated"]
    assert ablated.nfe == 18 and not ablated.stochastic
    moved = sample(elementwise, ablated, names["latents"])
    assert np.isfinite(moved).all()


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_every_name_in_the_tables_is_there(page):
    text = (PAGES / page).read_text()
    for module, name in re.findall(
        r"`(samplers|timesteps|preconditioning|objectives|tables|schedules|score)\.(\w+)", text
    ):
        assert hasattr(getattr(edm_jax, module, None) or tables, name), f"{module}.{name}"
