"""The examples of a loop of one's own run, learn the same, and are what the page shows."""

import pathlib
import re
import runpy
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from edm_jax import preconditioning

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own_loop.md").read_text()
EXAMPLES = ("own_loop", "own_loop_nnx", "own_loop_equinox")


@pytest.fixture(autouse=True)
def beside_the_examples(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))


def read(name):
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


def from_linen(example, layers):
    """Lets the example of another library start from linen's first parameters."""
    train, made = example["train"], example["MLP"]

    def start(key_or_rngs):
        net = made(key_or_rngs)
        if isinstance(net, nnx.Module):
            for layer, given in zip(net.layers, layers):
                layer.kernel[...], layer.bias[...] = given["kernel"], given["bias"]
            return net
        weights = [given["kernel"].T for given in layers] + [given["bias"] for given in layers]
        where = lambda net: [a.weight for a in net.layers] + [a.bias for a in net.layers]
        return eqx.tree_at(where, net, weights)

    train.__globals__["MLP"] = start
    return train


@pytest.mark.slow
def test_the_three_libraries_learn_the_same_moons_and_draw_them(tmp_path, monkeypatch, capsys):
    import moons

    example, picture, seen = read("own_loop"), tmp_path / "moons.png", []

    def train(steps):
        seen.append(example["train"](steps))
        return seen[-1]

    monkeypatch.setattr(sys, "argv", ["x", str(picture), "--steps", "160"])
    moons.main(train, "about")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "loss:" in capsys.readouterr().out
    ((denoise, losses),) = seen
    inputs = np.zeros((1, 2), np.float32), np.zeros(1, np.float32)
    params = jax.jit(example["MLP"]().init)(jax.random.key(0), *inputs)["params"]
    layers = [params[f"Dense_{i}"] for i in range(4)]
    others = [from_linen(read(name), layers)(160) for name in EXAMPLES[1:]]
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
    first = jax.jit(denoise)
    for other, found in others:
        np.testing.assert_allclose(found, losses, rtol=2e-5)
        np.testing.assert_allclose(jax.jit(other)(x, 0.3), first(x, 0.3), atol=2e-4)
    # The best constant answer has a loss of about 1; a network that learns goes below.
    assert losses[-50:].mean() < 0.95 * losses[:20].mean()
    # At a low level a point of the data stays where it is; far outside it is drawn back.
    two_moons = jax.jit(example["two_moons"], static_argnums=1)
    points = np.asarray(two_moons(jax.random.key(2), 2000))  # those of the picture
    near = np.asarray(first(points, 0.01))
    assert np.abs(near - points).max() < 0.05
    far = np.asarray(first(4 * points, 10.0))
    assert np.linalg.norm(far, axis=1).mean() < 0.5 * np.linalg.norm(4 * points, axis=1).mean()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_command_trains_and_draws(name, monkeypatch):
    import moons

    asked = []
    monkeypatch.setattr(moons, "main", lambda train, about: asked.append((train, about)))
    example = runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert asked == [(example["train"], example["__doc__"])]


def test_the_page_names_what_there_is():
    for name in ("vp", "ve", "epsilon", "x0", "v", "flow"):
        assert f"`{name}`" in PAGE and hasattr(preconditioning, name)
    for name in EXAMPLES:
        assert f"examples/{name}.py" in PAGE


class Network(linen.Module):
    @linen.compact
    def __call__(self, x, c_noise):
        assert c_noise.shape in (x.shape[:1], (4, 1, 1, 2))
        return linen.Dense(x.shape[-1])(x)


@pytest.mark.slow
def test_the_page_s_code_runs():
    """Its pieces one after the other, for a network and data of any kind."""
    key, batch, channels = jax.random.key(0), 4, 2
    y = np.random.default_rng(1).standard_normal((batch, 8, 3, channels), np.float32)
    y = jnp.asarray(y)
    network, called = Network(), []

    def conditional_network(x, c_noise, forcing):
        called.append(jax.tree.map(jnp.shape, forcing))
        return x * forcing["sea"][:, :1, None, None]

    names = {
        "jax": jax, "jnp": jnp, "key": key, "sigma_key": key, "noise_key": key, "batch": batch,
        "channels": channels, "y": y, "network": network,
        "params": jax.jit(network.init)(key, y, np.zeros(batch, np.float32)),
        "known": y > 0, "latitudes": jnp.asarray(np.linspace(-1.5, 1.5, 8, dtype=np.float32)),
        "conditional_network": conditional_network,
    }  # fmt: skip
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    made = []
    for code in blocks:
        if "points = sample(" in code:  # two channels, as the moons have
            names["denoise"], kept = (lambda x, sigma: 0.5 * x), names["denoise"]
        exec(code, names)
        made.append(dict(names))
        if "points = sample(" in code:
            names["denoise"] = kept
            assert names["points"].shape == (2000, 2)
    each, mean_loss = (next(m[name] for m in made if name in m) for name in ("each", "mean_loss"))
    assert each.shape == names["each"].shape == y.shape
    shares = np.cos(np.linspace(-1.5, 1.5, 8))[:, None, None] * (np.asarray(y) > 0)
    np.testing.assert_allclose(mean_loss, np.average(each, weights=shares), rtol=1e-5)
    assert called == [{"sun": (4, 4), "sea": (4, 4)}] and names["losses"].shape == (batch,)
