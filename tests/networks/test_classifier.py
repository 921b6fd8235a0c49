"""ADM's classifier against the original's numbers, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import guidance
from edm_jax.model import Model
from edm_jax.networks import Classifier, ClassifierConfig
from edm_jax.weights.official import adm_classifier


@pytest.fixture(scope="module")
def reference(golden):
    arrays = golden("classifier.npz")
    weights = {
        name.removeprefix("weights/"): value.astype(np.float32)
        for name, value in arrays.items()
        if name.startswith("weights/")
    }
    model = adm_classifier.from_state_dict(weights, resolution=8, num_blocks=1, head_channels=32)
    return arrays, model


def small(**changes):
    settings = dict(
        resolution=8, channels=1, label_dim=5, model_channels=8, channel_mult=(1, 2), num_blocks=1,
        attn_resolutions=(4,), head_channels=8,
    )  # fmt: skip
    return ClassifierConfig(**(settings | changes))


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.slow
def test_logits_and_their_gradient_at_the_levels_of_the_indices(reference):
    arrays, model = reference
    labels = jax.nn.one_hot(arrays["labels"], 10)
    levels = np.sqrt(1 / np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)) - 1)
    sigma = levels[arrays["timesteps"].astype(int)].astype(np.float32)
    scale = np.sqrt(1 + sigma**2)[:, None, None, None]  # the original's x has variance 1

    def total(x, model):
        logits = model.classifier()(scale * x, sigma)
        return guidance.log_prob(lambda x, sigma: logits, labels)(x, sigma).sum(), logits

    gradient, logits = jax.jit(jax.grad(total, has_aux=True))(arrays["x"], model)
    assert distance(logits, arrays["logits"]) < 1e-5
    assert distance(gradient, arrays["grad_log_prob"]) < 1e-5


@pytest.mark.slow
def test_the_mean_begins_without_an_opinion():
    net = small(pool="adaptive", channel_mult=(1,), attn_resolutions=(8,)).network()
    x, c_noise = jnp.ones((3, 8, 8, 1)), jnp.zeros(3)
    params = jax.jit(net.init)(jax.random.key(0), x, c_noise)["params"]
    apply = jax.jit(net.apply)
    assert not np.any(apply({"params": params}, x, c_noise))
    params["out_linear"]["kernel"] += jnp.eye(8)[:, :5]
    logits = apply({"params": params}, x, c_noise)
    assert logits.shape == (3, 5) and np.std(logits) > 0


@pytest.mark.slow
def test_parameters_have_the_laws_of_the_original():
    params = jax.jit(lambda key: Model.init(key, small(model_channels=64)).params)(
        jax.random.key(0)
    )
    pool = params["out_pool"]
    assert pool["positional"].shape == (17, 128)
    assert abs(float(jnp.std(pool["positional"])) * 128**0.5 - 1) < 0.1
    for name in ("qkv", "proj"):
        most = float(jnp.abs(pool[name]["kernel"]).max())
        assert 0.9 * 128**-0.5 < most <= 128**-0.5
    assert not np.any(params["dec_4x4_in0"]["conv1"]["kernel"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label_dim": 0}, "label_dim must be at least 2 for a classifier .*, got 0"),
        ({"learned_variance": True}, "learned_variance must be False for a classifier"),
        ({"label_dropout": 0.1}, "label_dropout must be 0 for a classifier, .* got 0.1"),
        ({"pool": "max"}, "pool must be one of attention, adaptive, got 'max'"),
        ({"head_channels": 0}, "head_channels must be at least 1, got 0"),
        (
            {"head_channels": 12},
            "model_channels must .* into its heads, such as 12, got 8",
        ),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes).network()


@pytest.mark.slow
def test_wrong_inputs():
    model = jax.eval_shape(lambda key: Model.init(key, small()), jax.random.key(0))
    x, labels = jnp.zeros((2, 8, 8, 1)), jnp.zeros((2, 7))
    with pytest.raises(ValueError, match=r"x must have shape \[B, 8, 8, 1\], got \(2, 4, 4, 1\)"):
        jax.eval_shape(lambda m: m.classifier()(x[:, ::2, ::2], 1.0), model)
    with pytest.raises(ValueError, match="output must have x's shape .* got .2, 5."):
        jax.eval_shape(lambda m: m.denoiser()(x, 1.0), model)
    with pytest.raises(ValueError, match=r"class_labels must .* \(2, 5\), got \(2, 7\)"):
        jax.eval_shape(lambda m: guidance.log_prob(m.classifier(), labels)(x, 1.0), model)
    with pytest.raises(ValueError, match=r"class_labels must have shape \[2, 0\], got \(2, 5\)"):
        net = Classifier(8, 1, 5, model_channels=8, channel_mult=(1,), head_channels=8)
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)), 0.0, jnp.zeros((2, 5)))
