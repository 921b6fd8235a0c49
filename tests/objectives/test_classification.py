"""Classifiers of noisy data: what the exact one loses, what training does, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import objectives, preconditioning
from edm_jax.data import digits
from edm_jax.model import Model
from edm_jax.networks import ClassifierConfig
from edm_jax.objectives.levels import continuous
from edm_jax.randomness import sample_keys
from edm_jax.training import averages, optimizer, state
from edm_jax.training.step import make_train_step

# Two classes at -1 and 1 on a line, each a normal distribution.
MEAN, STD, SIGMA = 1.0, 0.4, 0.7
SHARE = 0.3  # of the class at 1


def exact(x_in, c_noise):
    """The logits of the mixture, of what `preconditioning.edm(STD)` gives a network."""
    sigma = jnp.exp(4 * c_noise)[:, None]
    x = x_in * jnp.sqrt(sigma**2 + STD**2)
    odds = 2 * MEAN * x / (STD**2 + sigma**2) + np.log(SHARE / (1 - SHARE))
    return jnp.concatenate([jnp.zeros_like(odds), odds], axis=1)


def conditional_entropy():
    """H(c | x) in nats of x = y + SIGMA n, by quadrature."""
    variance = STD**2 + SIGMA**2
    x = np.linspace(-12, 12, 200_001)
    bell = lambda mean: np.exp(-((x - mean) ** 2) / (2 * variance))
    joint = np.stack([(1 - SHARE) * bell(-MEAN), SHARE * bell(MEAN)])
    joint /= np.sqrt(2 * np.pi * variance)
    return -np.sum(joint * np.log(joint / joint.sum(0))) * (x[1] - x[0])


@pytest.mark.slow
def test_the_exact_classifier_loses_the_conditional_entropy():
    count = 200_000
    rng = np.random.default_rng(0)
    c = rng.random(count) < SHARE
    y = jnp.asarray(np.where(c, MEAN, -MEAN)[:, None] + STD * rng.normal(size=(count, 1)))
    labels = jax.nn.one_hot(c.astype(int), 2)

    def mean(network):
        model = objectives.Wrapped(network, preconditioning.edm(STD))
        levels = objectives.discrete(np.array([SIGMA]))
        made = objectives.classification(continuous(levels))
        keys = jax.random.split(jax.random.key(0), (count, 2))
        examples = made.draw(made.init(), keys, y, {"class_labels": labels})
        losses = made.loss(model, made.init(), examples)
        np.testing.assert_array_equal(losses.minimised, losses.logged)
        np.testing.assert_allclose(losses.sigma, SIGMA, rtol=1e-6)
        return float(losses.each.mean())

    # The deviation of this mean is 0.0013; no other classifier loses less.
    assert abs(mean(exact) - conditional_entropy()) < 0.004
    for wrong in (lambda x, t: 0.8 * exact(x, t), lambda x, t: exact(x, t) + jnp.array([0, 0.5])):
        assert mean(wrong) > conditional_entropy() + 0.005


CONFIG = ClassifierConfig(
    resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1, 2), num_blocks=1,
    attn_resolutions=(4,), head_channels=8,
)  # fmt: skip


@pytest.mark.slow
def test_the_step_trains_one():
    images, targets = digits.read()
    batch = {"images": images[:64], "labels": np.eye(10, dtype=np.float32)[targets[:64]]}
    model = Model.build(CONFIG, None)
    objective = objectives.build("classification", model)
    adam = optimizer.adam(optimizer.learning_rate(3e-3, 0, 64), weight_decay=0.05)
    average = averages.Averages(averages.by_halflife(64, 1000.0), {})
    step = jax.jit(make_train_step(model, objective, adam, average))
    params = jax.jit(lambda key: Model.init(key, CONFIG).params)(jax.random.key(0))
    now, losses = state.create(params, objective, adam), []
    for _ in range(12):
        now, numbers = step(now, batch, jax.random.key(1))
        losses.append(float(numbers["loss"]))
    assert abs(losses[0] - np.log(10)) < 0.3
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.15


@pytest.mark.slow
def test_levels_are_those_that_are_asked_for():
    model = objectives.Wrapped(lambda x, c_noise: x, preconditioning.edm())
    y, keys = jnp.zeros((1000, 1)), jax.vmap(jax.random.split)(sample_keys(range(1000)))
    for name, arguments in [("edm", {"p_mean": -0.4}), ("ve", {}), ("ddpm", {"betas": "cosine"})]:
        made = objectives.build("classification", model, noise=name, **arguments)
        found = made.draw(made.init(), keys, y, {}).sigma
        denoising = objectives.build(name, model, **arguments)
        np.testing.assert_array_equal(found, denoising.draw(denoising.init(), keys, y, {}).sigma)


@pytest.mark.slow
def test_a_row_without_a_label_teaches_nothing():
    model = objectives.Wrapped(exact, preconditioning.edm(STD))
    made = objectives.build("classification", model)
    keys = jax.vmap(jax.random.split)(sample_keys([1, 2]))
    labels = {"class_labels": jnp.array([[0.0, 1.0], [0.0, 0.0]])}
    examples = made.draw(made.init(), keys, jnp.ones((2, 1)), labels)
    losses = made.loss(model, made.init(), examples)
    assert losses.minimised[0] > 0 and losses.minimised[1] == 0


@pytest.mark.parametrize(
    "arguments, labels, message",
    [
        ({}, None, "class_labels must be given to train a classifier, got none"),
        ({}, (2, 3), r"logits must have the shape of class_labels, \(2, 3\), got \(2, 2\)"),
        ({"noise": "edmm"}, None, "noise must be one of edm, .*did you mean 'edm'"),
        ({"uncertainty": True}, None, "arguments of 'edm' must be among p_mean, .* 'uncertainty'"),
    ],
)
def test_what_does_not_go_together(arguments, labels, message):
    model = objectives.Wrapped(exact, preconditioning.edm(STD))
    conditions = {} if labels is None else {"class_labels": jnp.ones(labels)}
    with pytest.raises(ValueError, match=message):
        made = objectives.build("classification", model, **arguments)
        keys = jax.vmap(jax.random.split)(sample_keys([1, 2]))
        made.loss(model, made.init(), made.draw(made.init(), keys, jnp.ones((2, 1)), conditions))


def test_a_denoiser_is_no_classifier():
    model = objectives.Wrapped(lambda x, c_noise: x, preconditioning.edm())
    x = jnp.zeros((2, 4, 4, 1))
    with pytest.raises(ValueError, match=r"must be logits \[2, L\] of a classifier, got \(2, 4, 4"):
        model.classifier()(x, 1.0)
