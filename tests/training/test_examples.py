"""Which key of an example is for what, and that no two are for the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.training.examples import example_keys, joined, microbatches, prepare

RAW = jax.random.key_data


def test_keys_are_those_of_the_run_the_step_and_the_place_in_the_batch():
    key = jax.random.key(3)
    found = example_keys(key, jnp.int32(5), 3)
    for i in range(3):
        wanted = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 5), i), 4)
        np.testing.assert_array_equal(RAW(found[i]), RAW(wanted))
    assert len(np.unique(RAW(found).reshape(12, -1), axis=0)) == 12


@pytest.mark.slow
def test_keys_of_a_spread_batch_are_those_of_the_whole():
    key, step = jax.random.key(3), jnp.int32(2)
    share = lambda _: RAW(example_keys(key, step, 3, axis_name="data"))
    spread = jax.vmap(share, axis_name="data")(jnp.arange(4))
    np.testing.assert_array_equal(spread.reshape(12, 4, -1), RAW(example_keys(key, step, 12)))


def batch(width):
    grey = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    return {"images": grey, "labels": np.eye(4, width, dtype=np.float32)}


def test_the_first_key_augments_and_the_second_drops():
    keys = jax.random.split(jax.random.key(1), (4, 2))

    def augment(given, images):
        return images + 1.0, RAW(given)

    y, conditions = prepare(augment)(batch(3), keys)
    np.testing.assert_array_equal(conditions["augment_labels"], RAW(keys[:, 0]))
    np.testing.assert_array_equal(RAW(conditions["dropout_keys"]), RAW(keys[:, 1]))
    np.testing.assert_array_equal(conditions["class_labels"], np.eye(4, 3))
    np.testing.assert_allclose(y.ravel(), np.linspace(0, 2, 256), atol=1e-6)


def test_pixels_become_minus_one_to_one_and_no_labels_are_no_condition():
    y, conditions = prepare()(batch(0), jax.random.split(jax.random.key(1), (4, 2)))
    np.testing.assert_allclose(y.ravel(), np.linspace(-1, 1, 256), atol=1e-6)
    assert set(conditions) == {"dropout_keys"}


@pytest.mark.parametrize("shards", [1, 3])
def test_joined_undoes_microbatches(shards):
    rows = np.arange(24.0).reshape(12, 2)
    parts = microbatches(rows, rounds=2, shards=shards)
    assert parts.shape == (2, 6, 2) and parts[0, 0, 0] == 0 and parts[1, -1, -1] == 23
    np.testing.assert_array_equal(joined(parts, shards), rows)
