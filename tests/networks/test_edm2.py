"""EDM2's network: the reference's numbers, its initial state, and what it refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import network_cases as cases
import numpy as np
import pytest

from edm_jax.model import Model, init_params, parameter_count
from edm_jax.networks import edm2, layers
from edm_jax.randomness import sample_keys
from edm_jax.weights.official import nvidia
from edm_jax.weights.official.names import flatten

TINY = edm2(
    resolution=8, channels=1, label_dim=3, model_channels=16, channel_mult=(1, 2), num_blocks=1,
    attn_resolutions=(4,), head_channels=16,
)  # fmt: skip
# (model_channels, channels, label_dim) -> parameters. Quadratic in the first: three say all. RGB,
# and no labels: tests/configs.
COUNTS = {
    (64, 4, 1000): 31_309_029,
    (128, 4, 1000): 124_713_253,
    (448, 4, 1000): 1_523_164_773,
}


def golden_model(arrays, **changes):
    weights, arguments = cases.official(arrays)
    return nvidia.from_state_dict(weights, arguments | changes)


@jax.jit
def evaluated(model, x, sigma, labels):
    """F, D and u."""
    c = model.preconditioner
    f = model.network.apply(
        {"params": model.params}, c.c_in(sigma)[:, None, None, None] * x, c.c_noise(sigma), labels
    )
    return f, model.denoiser(labels)(x, sigma), model.log_variance(sigma)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edm2_cond", "edm2_uncond"])
def test_network_denoiser_and_log_variance_are_the_references(golden, name):
    arrays = golden(f"{name}.npz")
    model = golden_model(arrays)
    f, d, u = evaluated(model, arrays["x"], arrays["sigma"], arrays.get("class_labels"))
    assert cases.relative_error(f, arrays["output"]).max() < 1e-5
    assert cases.relative_error(d, arrays["denoised"]).max() < 1e-5
    np.testing.assert_allclose(u, arrays["logvar"], rtol=0, atol=5e-6)
    if "denoised_no_labels" in arrays:
        none = np.zeros_like(arrays["class_labels"])
        _, d, _ = evaluated(model, arrays["x"], arrays["sigma"], none)
        assert cases.relative_error(d, arrays["denoised_no_labels"]).max() < 1e-5


@pytest.mark.slow
def test_half_precision_stays_near(golden):
    arrays = golden("edm2_cond.npz")
    model = golden_model(arrays)
    half = Model.build(replace(model.config, dtype="float16"), model.params)
    f, d, _ = evaluated(half, arrays["x"], arrays["sigma"], arrays["class_labels"])
    assert f.dtype == d.dtype == jnp.float32
    assert cases.relative_error(d, arrays["denoised"]).max() < 3e-3


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow if i else ()) for i, c in enumerate(COUNTS)]
)
def test_parameters_of_published_networks(case):
    width, channels, label_dim = case
    config = edm2(model_channels=width, channels=channels, label_dim=label_dim)
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    assert parameter_count(params) == COUNTS[case]
    buffers = sum(leaf.size for leaf in jax.tree.leaves(params)) - COUNTS[case]
    assert buffers == 2 * width + 256
    assert len(flatten(params)) == (203 if label_dim else 202)


def test_the_counts_of_all_sizes_lie_on_one_parabola():
    """Those of the larger networks, which are traced by nobody here, follow from three."""
    published = {64: 31309029, 128: 124713253, 192: 280212837, 256: 497807781, 320: 777498085,
                 384: 1119283749, 448: 1523164773}  # fmt: skip
    known = [width for width, channels, labels in COUNTS if (channels, labels) == (4, 1000)]
    fitted = np.polyfit(known, [COUNTS[width, 4, 1000] for width in known], 2)
    found = {width: round(float(np.polyval(fitted, width))) for width in published}
    assert found == published


@pytest.fixture(scope="module")
def fresh():
    return jax.device_get(jax.jit(lambda: init_params(jax.random.key(0), TINY))())


@pytest.mark.slow
def test_a_fresh_network_is_zero_and_its_log_variance_is_not(fresh):
    flat = {"/".join(path): leaf for path, leaf in flatten(fresh).items()}
    gains = {name: leaf for name, leaf in flat.items() if name.endswith("gain")}
    assert len(gains) == 11 and not any(gains.values())
    for name, leaf in flat.items():
        if name.endswith("kernel") and leaf.size > 500:
            assert abs(leaf.mean()) < 5 / leaf.size**0.5 and abs(leaf.std() - 1) < 0.1, name
    u = jax.jit(log_variance)(fresh)
    assert 0.2 < np.std(u) < 3  # of a random function of unit variance


def log_variance(params):
    c_noise = jnp.linspace(-2.0, 2.0, 50)
    return TINY.network().apply({"params": params}, c_noise, method="log_variance")


@pytest.mark.slow
def test_a_fresh_network_denoises_a_gaussian_ideally(fresh):
    model = Model.build(TINY, fresh)
    x, sigma = np.random.default_rng(0).normal(size=(2, 8, 8, 1)), np.array([0.3, 7.0])
    f, d, _ = evaluated(model, x.astype(np.float32), sigma.astype(np.float32), np.eye(3)[:2])
    assert not f.any()
    np.testing.assert_allclose(d, (0.25 / (0.25 + sigma**2))[:, None, None, None] * x, rtol=1e-5)


@pytest.mark.slow
def test_every_block_and_the_label_have_a_mask_of_their_own(monkeypatch):
    net = replace(TINY, dropout=0.5, label_dropout=0.5).network()
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), TINY))
    numbers = []
    monkeypatch.setattr(
        layers,
        "keep_mask",
        lambda keys, index, rate, shape: numbers.append(index) or jnp.ones((1, *shape), bool),
    )
    given = dict(class_labels=jnp.eye(3), dropout_keys=sample_keys(range(3)))
    run = lambda p: net.apply({"params": p}, jnp.zeros((3, 8, 8, 1)), jnp.zeros(3), **given)
    jax.eval_shape(run, params)
    assert numbers == list(range(11))


def test_remat_recomputes_each_block():
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), TINY))

    def recomputed(config):
        net = config.network()
        run = lambda p: net.apply({"params": p}, jnp.zeros((3, 8, 8, 1)), jnp.zeros(3)).sum()
        names = [eqn.primitive.name for eqn in jax.make_jaxpr(run)(params).eqns]
        return sum(name in ("checkpoint", "remat2") for name in names)

    assert recomputed(replace(TINY, remat=True)) == 10


def test_a_level_too_narrow_for_a_head_has_no_attention():
    config = replace(TINY, head_channels=32, attn_resolutions=(8, 4))
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    attending = [name for name, layer in flatten_top(params) if "attn_qkv" in layer]
    assert all("4x4" in name for name in attending) and len(attending) == 4


def flatten_top(params):
    return [(name, layer) for name, layer in params.items() if isinstance(layer, dict)]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(augment_dim=9), "augment_dim must be 0 for EDM2's network"),
        (dict(res_balance=1.5), r"res_balance must be in \[0, 1\], got 1.5"),
        (dict(clip_act=-1.0), "clip_act must be at least 0, got -1.0"),
        (dict(head_channels=0), "head_channels must be at least 1, got 0"),
        (dict(model_channels=44, head_channels=16), "model_channels must give every level a width"),
        (dict(resample_filter=(1, 2, 1)), "resample_filter must be an even number"),
    ],
)
def test_arguments_that_cannot_be_used(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes).network()
