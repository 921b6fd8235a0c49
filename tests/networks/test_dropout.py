"""Dropout and label dropout belong to the example: its key decides, nothing else."""

import functools

import jax
import network_cases as cases
import numpy as np
import pytest

from edm_jax.networks import inputs, layers
from edm_jax.randomness import sample_keys

ONE_LEVEL = dict(channel_mult=(1,), attn_resolutions=(8,))
LABELS, LEVELS = np.eye(4, 3, dtype=np.float32), np.arange(4, dtype=np.float32)


@pytest.mark.slow
def test_masks_have_the_rate_and_keep_the_mean():
    keys, ones = sample_keys(range(16)), np.ones((16, 32, 32, 5), np.float32)

    @jax.jit
    def both(keys, x):
        return layers.keep_mask(keys, 3, 0.13, x.shape[1:]), layers.dropout(x, keys, 3, 0.13)

    mask, dropped = map(np.asarray, both(keys, ones))
    count = mask.size
    assert abs(mask.mean() - 0.87) < 4 * np.sqrt(0.13 * 0.87 / count)
    # Each half of a 32-bit word is a draw of its own.
    pairs = mask.reshape(16, -1, 2)
    assert abs((~pairs[..., 0] & ~pairs[..., 1]).mean() - 0.13**2) < 4 * 0.13 / np.sqrt(count / 2)
    np.testing.assert_array_equal(dropped != 0, mask)
    np.testing.assert_allclose(dropped[mask], 1 / 0.87, rtol=2e-5)


@pytest.mark.slow
def test_an_odd_number_of_elements_is_covered():
    for seeds, size in (([0], 3), ([0, 1], 1)):
        mask = jax.eval_shape(
            lambda keys: layers.keep_mask(keys, 1, 0.5, (size,)), sample_keys(seeds)
        )
        assert mask.shape == (len(seeds), size)


def test_layers_and_examples_draw_apart():
    keys = sample_keys([4, 5])
    masks = jax.jit(lambda keys: [layers.keep_mask(keys, i, 0.5, (64,)) for i in (1, 2)])
    first, second = map(np.asarray, masks(keys))
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
        lambda keys, index, rate, shape: numbers.append(index) or np.ones((1, *shape), bool),
    )
    given = dict(class_labels=LABELS, dropout_keys=sample_keys(range(4)))
    run = lambda p: net.apply({"params": p}, np.zeros((4, 8, 8, 3), np.float32), LEVELS, **given)
    jax.eval_shape(run, params)
    assert numbers == list(range(len(blocks) + 1)) and len(blocks) > 5


def test_evaluation_drops_nothing():
    x = np.ones((2, 4), np.float32)
    assert layers.dropout(x, None, 1, 0.5) is x
    assert inputs.drop_labels(x, None, 0.5) is x


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddpmpp", "adm"])
def test_an_example_does_not_see_its_batch(kind):
    net = cases.small(kind, dropout=0.5, label_dropout=0.5, **ONE_LEVEL)
    params = cases.formula_params(net)
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(4, 8, 8, 3)))
    run = functools.partial(cases.apply, net, params)
    drawn = lambda seeds: dict(dropout_keys=sample_keys(seeds))
    whole = np.asarray(run(x, LEVELS, dict(class_labels=LABELS) | drawn(range(4))))
    order = np.array([2, 0, 3, 1])
    again = run(x[order], LEVELS[order], dict(class_labels=LABELS[order]) | drawn(order))
    np.testing.assert_allclose(again, whole[order], rtol=1e-4, atol=1e-4)
    other = run(x, LEVELS, dict(class_labels=LABELS) | drawn(range(4, 8)))
    assert (cases.relative_error(other, whole) > 0.05).all()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.25, 0.75])
def test_label_rows_are_dropped_whole(rate):
    labels = np.eye(10, dtype=np.float32)[np.arange(4000) % 10]
    drop = jax.jit(lambda labels, keys: inputs.drop_labels(labels, keys, rate))
    kept = np.asarray(drop(labels, sample_keys(range(4000))))
    rows = kept.sum(1)
    assert set(rows) == {0.0, 1.0}
    assert abs(rows.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / 4000)
    np.testing.assert_array_equal(kept[rows == 1], labels[rows == 1])


@pytest.mark.slow
def test_a_dropped_label_is_no_label():
    # The map's bias stays: dropping is feeding zeros, in training as in evaluation.
    net = cases.small("ddpmpp", dropout=0.0, label_dropout=1 - 2**-15, **ONE_LEVEL)
    params = cases.formula_params(net)
    x = np.ones((4, 8, 8, 3), np.float32)
    run = functools.partial(cases.apply, net, params, x, LEVELS)
    dropped = run(dict(class_labels=LABELS, dropout_keys=sample_keys(range(4))))
    np.testing.assert_allclose(dropped, run(dict(class_labels=0 * LABELS)), atol=1e-5)
