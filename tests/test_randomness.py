"""A draw depends on its key alone; keys depend on their seed alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from edm_jax import randomness

SEEDS = [0, 7, 2**31, 2**32 - 1, 123456789, 5, 6, 8]
DRAWS = {
    "normal": lambda keys: randomness.normal(keys, (3, 5)),
    "uniform": lambda keys: randomness.uniform(keys, (3, 5)),
    "rademacher": lambda keys: randomness.rademacher(keys, (3, 5)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_a_draw_does_not_see_its_neighbours(draw):
    together = np.asarray(draw(randomness.sample_keys(SEEDS)))
    for i, seed in enumerate(SEEDS):
        np.testing.assert_array_equal(together[i], draw(randomness.sample_keys([seed]))[0])
    assert len(np.unique(together.reshape(len(SEEDS), -1), axis=0)) == len(SEEDS)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_a_draw_is_the_same_jitted_and_on_eight_devices(draw):
    keys = randomness.sample_keys(SEEDS)
    expected = np.asarray(draw(keys))
    np.testing.assert_array_equal(jax.jit(draw)(keys), expected)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    spread = jax.device_put(keys, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_array_equal(jax.jit(draw)(spread), expected)


def test_known_draw():
    # Frozen numbers: a change here changes every image that a seed names.
    drawn = randomness.normal(randomness.sample_keys([7]), (3,))
    np.testing.assert_allclose(drawn, [[0.45123515, 1.9534509, -0.51623946]], rtol=1e-6)


def test_keys_are_those_of_the_seed_whatever_the_default_generator():
    expected = jax.random.key_data(randomness.sample_keys(SEEDS))
    with jax.default_prng_impl("rbg"):
        found = jax.random.key_data(randomness.sample_keys(SEEDS))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(expected[:, 1], np.array(SEEDS, np.uint32))


def test_traced_seeds_make_the_same_keys():
    seeds = jnp.array([1, 2, 3], jnp.uint32)
    found = jax.jit(lambda s: jax.random.key_data(randomness.sample_keys(s)))(seeds)
    np.testing.assert_array_equal(found, jax.random.key_data(randomness.sample_keys([1, 2, 3])))


@pytest.mark.parametrize(
    "seeds, message",
    [
        ([0, -1], "got -1"),
        ([2**32], "got 4294967296"),
        ([2**70], "18446744073709551616|1180591620717411303424"),
        ([0.5], "integers"),
        (3, "one-dimensional"),
        ([[1]], "one-dimensional"),
    ],
)
def test_bad_seeds_are_named(seeds, message):
    with pytest.raises(ValueError, match=message):
        randomness.sample_keys(seeds)


@pytest.mark.parametrize("seeds", [np.zeros((1, 1), np.uint32), np.zeros(1, np.float32)])
def test_bad_traced_seeds_are_named(seeds):
    with pytest.raises(ValueError, match="seeds must be a one-dimensional array of integers"):
        jax.eval_shape(randomness.sample_keys, seeds)


def test_fold_in_broadcasts_keys_against_data():
    keys, data = randomness.sample_keys([1, 2, 3]), jnp.array([4, 5, 6])
    raw = lambda keys: np.asarray(jax.random.key_data(keys))
    single = [[raw(jax.random.fold_in(k, d)) for d in (4, 5, 6)] for k in keys]
    np.testing.assert_array_equal(raw(randomness.fold_in(keys, 4)), [row[0] for row in single])
    np.testing.assert_array_equal(raw(randomness.fold_in(keys[0], data)), single[0])
    diagonal = [single[i][i] for i in range(3)]
    np.testing.assert_array_equal(raw(randomness.fold_in(keys, data)), diagonal)
    np.testing.assert_array_equal(raw(randomness.fold_in(keys[1], 6)), single[1][2])


@pytest.mark.slow
def test_moments():
    keys = randomness.fold_in(jax.random.key(3), jnp.arange(1000))
    normal = np.asarray(randomness.normal(keys, (200,)), np.float64)
    uniform = np.asarray(randomness.uniform(keys, (200,), minval=-1.0, maxval=3.0), np.float64)
    signs = np.asarray(randomness.rademacher(keys, (200,)), np.float64)
    n = normal.size
    assert abs(normal.mean()) < 4 / n**0.5 and abs((normal**2).mean() - 1) < 4 * (2 / n) ** 0.5
    assert abs((normal**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert abs(uniform.mean() - 1) < 4 * (16 / 12 / n) ** 0.5
    assert uniform.min() >= -1 and uniform.max() < 3
    unit = np.asarray(randomness.uniform(keys, (200,)), np.float64)
    assert abs(unit.mean() - 0.5) < 4 * (1 / 12 / n) ** 0.5 and unit.min() >= 0 and unit.max() < 1
    assert set(np.unique(signs)) == {-1.0, 1.0} and abs(signs.mean()) < 4 / n**0.5
    # Neighbouring keys are independent of each other.
    assert abs((normal[1:] * normal[:-1]).mean()) < 4 / n**0.5


def test_dtype():
    keys = randomness.sample_keys([0, 1])
    assert randomness.normal(keys, (2,), dtype=jnp.bfloat16).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert randomness.normal(keys, (2,), dtype=jnp.float64).dtype == jnp.float64


def test_bad_keys_are_named():
    with pytest.raises(ValueError, match="keys must be typed keys.*uint32"):
        randomness.normal(jnp.zeros((2, 2), jnp.uint32), (3,))
    with pytest.raises(ValueError, match=r"keys must have shape \[B\], got \(\)"):
        randomness.normal(jax.random.key(0), (3,))
    with pytest.raises(ValueError, match="data must be integers"):
        randomness.fold_in(jax.random.key(0), 0.5)


@pytest.mark.slow
def test_split_keys_belong_to_the_sample_and_to_one_draw_each():
    keys = randomness.sample_keys(range(5))
    parts = randomness.split(keys, 3)
    assert len(parts) == 3 and len(randomness.split(keys)) == 2
    chex.assert_shape(parts, (5,))
    draws = np.concatenate([randomness.normal(part, (4,)) for part in (keys, *parts)])
    assert len(np.unique(draws)) == draws.size  # no two share a number, nor the keys they are from
    for count in (1, 2, 3):  # key i alone decides
        alone = randomness.split(keys[2:3], count)
        for one, all_of_them in zip(alone, randomness.split(keys, count)):
            chex.assert_trees_all_equal(
                jax.random.key_data(one), jax.random.key_data(all_of_them[2:3])
            )
    expected = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    for j, part in enumerate(jax.jit(randomness.split, static_argnums=1)(keys, 3)):
        chex.assert_trees_all_equal(jax.random.key_data(part), jax.random.key_data(expected[:, j]))
    for count in (0, 1.5, None):
        with pytest.raises(ValueError, match=f"count must be a positive integer, got {count}"):
            randomness.split(keys, count)
    with pytest.raises(ValueError, match="keys must"):
        randomness.split(jnp.zeros((3, 2)))
