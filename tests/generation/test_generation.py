"""From seeds to images: which key draws what, which class goes with which seed, and the pixels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import generation, ideal, randomness, samplers, timesteps

SEEDS = np.array([7, 8, 2**32 - 1], np.uint32)
SHAPE = (4, 4, 1)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Blur:
    """A model of Gaussian data; a label adds its class's number, from 1, to what it sees."""

    label_dim: int = 0
    image_shape, latents = SHAPE, False
    config = property(lambda self: self)

    def denoiser(self, one_hot):
        numbers = jnp.arange(1.0, self.label_dim + 1)
        shift = jnp.zeros(()) if one_hot is None else (one_hot @ numbers)[:, None, None, None]
        return lambda x, sigma: ideal.gaussian(0.0, 0.5)(x, sigma) + shift


def keys_of(seeds):
    return jnp.stack([jax.random.split(jax.random.key(int(seed)), 3) for seed in seeds])


@pytest.mark.slow
@pytest.mark.parametrize("churn", [None, samplers.Churn(2.0)], ids=["plain", "churn"])
def test_a_seed_s_first_key_draws_the_start_and_the_third_the_path(churn):
    tableau, model = samplers.heun(timesteps.edm(3), churn=churn), Blur()

    @jax.jit
    def by_hand(keys):
        start = jax.vmap(lambda key: jax.random.normal(key, (16,)))(keys[:, 0]).reshape(3, *SHAPE)
        path = keys[:, 2] if churn else None
        return samplers.sample(model.denoiser(None), tableau, start, path)

    keys = keys_of(SEEDS)
    found = jax.jit(lambda seeds: generation.draw(model, tableau, seeds))(SEEDS)
    np.testing.assert_allclose(found, by_hand(keys), rtol=1e-6, atol=1e-6)
    assert len(np.unique(jax.random.key_data(keys).reshape(9, -1), axis=0)) == 9


@pytest.mark.slow
def test_a_seed_s_second_key_draws_its_class():
    found = generation.random_classes(range(500), 10)

    @jax.jit
    def by_hand(keys):
        keys = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, 10))(keys[:, 1])

    np.testing.assert_array_equal(found, by_hand(randomness.sample_keys(range(500))))
    assert set(found) == set(range(10))


@pytest.mark.slow
def test_labels_become_one_hot_and_negative_ones_none():
    tableau, model = samplers.euler([1.0, 0.0]), Blur(3)
    same = jnp.full(4, 5)
    found = generation.draw(model, tableau, same, jnp.array([-1, 0, 2, -1]))
    shift = found - generation.draw(Blur(), tableau, same)
    np.testing.assert_allclose(shift.mean((1, 2, 3)), [0, 1, 3, 0], atol=1e-6)
    np.testing.assert_allclose(generation.draw(model, tableau, same), found[:1].repeat(4, 0))


def test_pixels_are_rounded_to_the_nearest():
    levels = np.arange(256, dtype=np.float64)
    for offset in (-0.49, 0.0, 0.49):
        images = jnp.asarray((levels + offset) / 127.5 - 1, jnp.float32)
        np.testing.assert_array_equal(generation.to_uint8(images), levels)
    np.testing.assert_array_equal(generation.to_uint8(jnp.array([-9.0, 9.0])), [0, 255])


def test_every_class_with_every_seed_class_by_class():
    model = Blur(3)
    for classes, wanted in (("all", [0, 1, 2]), (2, [2]), (0, [0]), ([2, 1], [2, 1])):
        seeds, labels = generation.pairs(model, [5, 6], classes)
        np.testing.assert_array_equal(seeds, [5, 6] * len(wanted))
        np.testing.assert_array_equal(labels, np.repeat(wanted, 2))
    seeds, labels = generation.pairs(model, [0, 2**32 - 1])
    np.testing.assert_array_equal(labels, generation.random_classes([0, 2**32 - 1], 3))
    assert generation.pairs(model, [5], None)[1] is None
    assert generation.pairs(Blur(), [5], "random")[1] is None
    for seeds in ([-1], [2**32], [0.5]):
        with pytest.raises(ValueError, match="seeds must be integers"):
            generation.pairs(model, seeds)
    for classes in (-1, 3, [0, 3]):
        with pytest.raises(ValueError, match="class must be 0 to 2"):
            generation.pairs(model, [5], classes)
    with pytest.raises(ValueError, match="classes must be None, as the model has no labels"):
        generation.pairs(Blur(), [5], 0)


@pytest.mark.slow
def test_a_path_goes_from_the_noise_to_the_image_in_the_data_s_range():
    tableau, model = samplers.euler([8.0, 2.0, 1.0, 0.0]), Blur()
    shown, sigmas = generation.paths(model, tableau, SEEDS, columns=4)
    np.testing.assert_array_equal(sigmas, [8, 2, 1, 0])
    last, states = generation.draw(model, tableau, jnp.asarray(SEEDS), trajectory=True)
    for k, sigma in enumerate((8.0, 2.0, 1.0)):
        scaled = 0.5 * states[k] / np.sqrt(0.25 + sigma**2)
        np.testing.assert_array_equal(shown[:, k], generation.to_uint8(scaled))
    np.testing.assert_array_equal(shown[:, 3], generation.to_uint8(last))
    few, sigmas = generation.paths(model, tableau, SEEDS, columns=2)
    np.testing.assert_array_equal(sigmas, [8, 0])
    np.testing.assert_array_equal(few, shown[:, [0, 3]])


def test_batches_are_the_pairs_in_their_order_and_the_last_one_is_cut(monkeypatch):
    tableau, model = samplers.euler([8.0, 1.0, 0.0]), Blur(3)
    seeds, labels = [5, 6, 7, 8, 9, 10, 11], [2, 0, 1, 1, 0, 2, 0]
    asked, denoiser = [], Blur.denoiser
    monkeypatch.setattr(Blur, "denoiser", lambda *a: asked.append(a) or denoiser(*a))
    parts = list(generation.generate(model, tableau, seeds, labels=labels, batch_size=2, devices=2))
    assert [len(part.seeds) for part in parts] == [4, 3]
    assert len(asked) == 1  # in the check of the arguments and the batches together
    for part, found in zip(parts, (slice(0, 4), slice(4, 7))):
        np.testing.assert_array_equal(part.seeds, seeds[found])
        np.testing.assert_array_equal(part.labels, labels[found])
        images = generation.draw(model, tableau, *map(jnp.asarray, (seeds[found], labels[found])))
        np.testing.assert_array_equal(part.images, generation.to_uint8(images))
        assert part.finite.tolist() == [True] * len(part.seeds)
    one = list(generation.generate(model, tableau, seeds[:2], classes=None, devices=1))
    assert len(one) == 1 and one[0].labels is None and one[0].images.shape == (2, *SHAPE)
    plain = generation.to_uint8(generation.draw(Blur(), tableau, jnp.asarray(seeds[:2])))
    np.testing.assert_array_equal(one[0].images, plain)


@pytest.mark.slow
def test_an_image_that_is_none_is_marked():
    """Seed 6 gives infinity in one pixel: it alone is not finite."""
    model, seeds = Blur(), [5, 6, 7]
    first = generation.draw(model, samplers.euler([1.0, 0.0]), jnp.asarray(seeds))[:, 0, 0, 0]
    second = lambda x0: jnp.abs(x0[:, 0, 0, 0] - first[1]) < 1e-5
    spoilt = lambda x0: x0.at[:, 1, 2, 0].add(jnp.where(second(x0), jnp.inf, 0.0))
    loop = samplers.Loop(
        lambda denoise, noise, keys: (spoilt(denoise(noise, jnp.float32(1.0))), 1),
        nfe=1,
        stochastic=False,
    )
    (part,) = generation.generate(model, loop, seeds, batch_size=3, devices=1)
    assert part.finite.tolist() == [True, False, True]
