"""Every fresh parameter has the distribution that the paper's networks start from."""

import math

import jax
import network_cases as cases
import numpy as np
import pytest

from edm_jax.networks import layers

KINDS = ("ncsnpp", "skip", "adm")  # a skip network holds every layer of DDPM++


def fans(shape):
    """(fan_in, fan_out) of a kernel."""
    area = int(np.prod(shape[:-2]))
    return shape[-2] * area, shape[-1] * area


def song(path, shape):
    """(distribution, scale) of a parameter of SongUNet: half-width or standard deviation."""
    if path[-1] in ("scale", "bias"):
        return "constant", float(path[-1] == "scale")
    if path[-1] == "freqs":
        return "normal", 16.0
    factor = {"conv1": 1e-5, "proj": 1e-5, "qkv": 0.2**0.5}.get(path[-2], 1.0)
    factor = 1e-5 if path[-2].endswith("aux_conv") else factor
    return "uniform", factor * math.sqrt(6 / sum(fans(shape)))


def adm(path, shape, parent):
    """The same of DhariwalUNet; `parent` holds the shapes of the layer's parameters."""
    if "norm" in path[-2]:
        return "constant", float(path[-1] == "scale")
    if path[-2] in ("conv1", "proj", "out_conv", "map_augment"):
        return "constant", 0.0
    if path[-2] == "map_label":
        return "normal", 1.0
    return "uniform", 1 / math.sqrt(fans(parent["kernel"].shape)[0])


def distance(values, distribution, scale):
    """Kolmogorov-Smirnov distance times sqrt(n); above 2.2 once in 10,000 true draws."""
    z = np.sort(np.asarray(values, np.float64).ravel()) / scale
    if distribution == "uniform":
        cdf = np.clip((z + 1) / 2, 0, 1)
    else:
        cdf = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    n = z.size
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max(np.abs(cdf - steps[1:]).max(), np.abs(cdf - steps[:-1]).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_parameter_is_drawn_as_it_should(kind):
    params = jax.device_get(cases.fresh_params(cases.small(kind)))
    seen = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [key.key for key in path]
        parent = params
        for name in names[:-1]:
            parent = parent[name]
        shape = leaf.shape
        law, scale = adm(names, shape, parent) if kind == "adm" else song(names, shape)
        seen.add((law, names[-1]))
        if law == "constant":
            assert (leaf == scale).all(), names
        else:
            assert distance(leaf, law, scale) < 2.2, (names, law, scale)
            assert law == "normal" or np.abs(leaf).max() <= scale * (1 + 1e-6), names
    assert ("uniform", "kernel") in seen and ("constant", "scale") in seen
    assert (("uniform", "bias") in seen) == (kind == "adm")


def test_no_two_parameters_share_a_draw():
    params = cases.fresh_params(cases.small("skip"))
    blocks = [params[f"dec_8x8_block{i}"]["conv0"]["kernel"] for i in (0, 1)]
    assert not np.allclose(blocks[0][..., :16, :], blocks[1][..., :16, :])


@pytest.mark.slow
def test_one_draw_or_many_have_the_same_laws():
    # A layer by itself draws each parameter from its own key.
    x = jax.numpy.zeros((1, 2, 2, 64))
    adm_init = layers.Init("kaiming_uniform", weight=3**-0.5, bias=3**-0.5)
    params = layers.Conv(256, initial=adm_init).init(jax.random.key(1), x)["params"]
    for leaf in params.values():
        assert distance(leaf, "uniform", 1 / math.sqrt(9 * 64)) < 2.2
    params = layers.Dense(256, layers.Init("kaiming_normal")).init(jax.random.key(2), x)["params"]
    assert distance(params["kernel"], "normal", 1 / math.sqrt(64)) < 2.2
    assert not params["bias"].any()


@pytest.mark.slow
def test_jit_changes_no_draw_and_every_key_has_its_own():
    net = cases.small("skip")
    x, c_noise = jax.numpy.zeros((1, 8, 8, 3)), jax.numpy.zeros(1)
    plain = net.init({"params": jax.random.key(0)}, x, c_noise)["params"]
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(cases.fresh_params(net)), strict=True):
        np.testing.assert_array_equal(a, b)
    other = net.init(jax.random.key(1), x, c_noise)["params"]
    name = "enc_8x8_conv"
    assert not np.allclose(plain[name]["kernel"], other[name]["kernel"])
