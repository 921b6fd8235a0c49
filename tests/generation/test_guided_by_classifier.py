"""Drawing under a classifier's guidance: it is the rule of `guidance`, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_network import model_of

from edm_jax.generation import guided_by_classifier
from edm_jax.model import Model
from edm_jax.networks import ClassifierConfig, ddpmpp

SIZES = dict(
    resolution=8, channels=1, label_dim=3, model_channels=8, num_blocks=1, channel_mult=(1,),
    attn_resolutions=(),
)  # fmt: skip
MODEL = ddpmpp(label_dropout=0.1, **SIZES)
CLASSIFIER = ClassifierConfig(head_channels=8, **SIZES)


def shaped(config, **changes):
    """A model without numbers."""
    config = dataclasses.replace(config, **changes)
    return jax.eval_shape(lambda key: Model.init(key, config), jax.random.key(0))


@pytest.mark.slow
def test_it_is_the_rule(small_networks):
    model = model_of(MODEL)
    classifier = jax.jit(Model.init, static_argnums=1)(jax.random.key(1), CLASSIFIER)
    x = jax.random.normal(jax.random.key(2), (2, 8, 8, 1))
    labels = jnp.eye(3)[:2]

    @jax.jit
    def both(model, classifier, x):
        log_prob = lambda x: jax.nn.log_softmax(classifier.classifier()(x, 0.5))[jnp.arange(2), :2]
        gradient = jax.grad(lambda x: jnp.trace(log_prob(x)))(x)
        expected = jnp.clip(model.denoiser()(x, 0.5), -1, 1) + 3.0 * 0.5**2 * gradient
        made = guided_by_classifier(model, classifier, 3.0, threshold="static")
        return made.denoiser(labels)(x, 0.5), expected, gradient

    found, expected, gradient = both(model, classifier, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize(
    "model, classifier, message",
    [
        ({}, None, "classifier must be a classifier's model, got that of 'song'"),
        ({}, {"label_dim": 4}, "classifier must have 3 classes, as the model has, or none, got 4"),
        (
            {},
            {"resolution": 16},
            r"classifier must have images of \(8, 8, 1\), .* got \(16, 16, 1\)",
        ),
        ({"label_dropout": 0.0}, {}, "model must be .* without label dropout"),
    ],
)
def test_what_is_refused(model, classifier, message):
    with pytest.raises(ValueError, match=message):
        other = shaped(MODEL) if classifier is None else shaped(CLASSIFIER, **classifier)
        guided_by_classifier(shaped(MODEL, **model), other, 1.0)


def test_it_needs_a_class():
    made = guided_by_classifier(shaped(MODEL), shaped(CLASSIFIER), 1.0)
    with pytest.raises(ValueError, match="classes must be given to be guided by a classifier"):
        made.denoiser(None)
