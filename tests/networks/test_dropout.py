"""Dropout and label dropout belong to the example: its key decides, nothing else."""

import functools

import jax
import jax.numpy as jnp
import network_cases as cases
import numpy as np
import pytest

from edm_jax.networks import inputs, layers
from edm_jax.randomness import sample_keys

ONE_LEVEL = dict(channel_mult=(1,), attn_resolutions=(8,))


@pytest.mark.slow
def test_masks_have_the_rate_and_keep_the_mean():
    keys = sample_keys(range(16))
    mask = np.asarray(layers.keep_mask(keys, 3, 0.13, (32, 32, 5)))
    count = mask.size
    assert abs(mask.mean() - 0.87) < 4 * np.sqrt(0.13 * 0.87 / count)
    # Each half of a 32-bit word is a draw of its own.
    pairs = mask.reshape(16, -1, 2)
    assert abs((~pairs[..., 0] & ~pairs[..., 1]).mean() - 0.13**2) < 4 * 0.13 / np.sqrt(count / 2)
    dropped = np.asarray(layers.dropout(jnp.ones((16, 32, 32, 5)), keys, 3, 0.13))
    np.testing.assert_array_equal(dropped != 0, mask)
    np.testing.assert_allclose(dropped[mask], 1 / 0.87, rtol=2e-5)


@pytest.mark.slow
def test_an_odd_number_of_elements_is_covered():
    assert layers.keep_mask(sample_keys([0]), 1, 0.5, (3,)).shape == (1, 3)
    assert layers.keep_mask(sample_keys([0, 1]), 1, 0.5, (1,)).shape == (2, 1)


def test_layers_and_examples_draw_apart():
    keys = sample_keys([4, 5])
    first, second = (np.asarray(layers.keep_mask(keys, i, 0.5, (64,))) for i in (1, 2))
    for a, b in ((first[0], second[0]), (first[0], first[1]), (first[0], second[1])):
        assert 0.25 < (a == b).mean() < 0.75


@pytest.mark.parametrize("kind", ["ddpmpp", "skip", "adm"])
def test_every_block_and_the_label_have_a_mask_of_their_own(kind, monkeypatch):
    """A label's number is 0, a block's its place: one number twice would be one mask twice."""
    net = cases.small(kind, dropout=0.5, label_dropout=0.5)
    params = cases.abstract_params(net)
    blocks = [name for name in params if "conv1" in params[name]]
    numbers = []
    monkeypatch.setattr(
        layers,
        "keep_mask",
        lambda keys, index, rate, shape: numbers.append(index) or jnp.ones((1, *shape), bool),
    )
    given = dict(class_labels=jnp.eye(4, 3), dropout_keys=sample_keys(range(4)))
    run = lambda p: net.apply({"params": p}, jnp.zeros((4, 8, 8, 3)), jnp.zeros(4), **given)
    jax.eval_shape(run, params)
    assert numbers == list(range(len(blocks) + 1)) and len(blocks) > 5


def test_evaluation_drops_nothing():
    x = jnp.ones((2, 4))
    assert layers.dropout(x, None, 1, 0.5) is x
    assert inputs.drop_labels(x, None, 0.5) is x


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddpmpp", "adm"])
def test_an_example_does_not_see_its_batch(kind):
    net = cases.small(kind, dropout=0.5, label_dropout=0.5, **ONE_LEVEL)
    params = cases.formula_params(net)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 8, 8, 3)), jnp.float32)
    labels = dict(class_labels=jnp.eye(4, 3))
    keys = sample_keys(range(4))
    run = functools.partial(cases.apply, net, params)
    whole = run(x, jnp.arange(4.0), labels | dict(dropout_keys=keys))
    order = jnp.asarray([2, 0, 3, 1])
    again = run(
        x[order],
        jnp.arange(4.0)[order],
        dict(class_labels=jnp.eye(4, 3)[order], dropout_keys=keys[order]),
    )
    np.testing.assert_allclose(again, whole[order], rtol=1e-4, atol=1e-4)
    other = run(x, jnp.arange(4.0), labels | dict(dropout_keys=sample_keys(range(4, 8))))
    assert (cases.relative_error(other, whole) > 0.05).all()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.25, 0.75])
def test_label_rows_are_dropped_whole(rate):
    labels = jnp.eye(10)[jnp.arange(4000) % 10]
    kept = inputs.drop_labels(labels, sample_keys(range(4000)), rate)
    rows = np.asarray(kept.sum(1))
    assert set(rows) == {0.0, 1.0}
    assert abs(rows.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / 4000)
    np.testing.assert_array_equal(kept[rows == 1], labels[rows == 1])


@pytest.mark.slow
def test_a_dropped_label_is_no_label():
    # The map's bias stays: dropping is feeding zeros, in training as in evaluation.
    net = cases.small("ddpmpp", dropout=0.0, label_dropout=1 - 2**-15, **ONE_LEVEL)
    params = cases.formula_params(net)
    x = jnp.ones((4, 8, 8, 3))
    run = functools.partial(cases.apply, net, params, x, jnp.zeros(4))
    dropped = run(dict(class_labels=jnp.eye(4, 3), dropout_keys=sample_keys(range(4))))
    np.testing.assert_allclose(dropped, run(dict(class_labels=jnp.zeros((4, 3)))), atol=1e-5)
