"""A guided model is drawn from like a model, and gives the numbers of its rule written out."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_network import SmallNetwork

import edm_jax
from edm_jax import generation, guidance, normal, samplers, timesteps
from edm_jax.generation.seeds import NOISE, keys_of
from edm_jax.model import Model
from edm_jax.networks import ddpmpp
from edm_jax.networks.config import ModelConfig

CONFIG = ddpmpp(resolution=8, channels=1, label_dim=3, label_dropout=0.1, attn_resolutions=(8,))
SEEDS, LABELS = np.arange(4, dtype=np.uint32), np.array([0, 2, 1, 1])
HEUN = samplers.heun(timesteps.edm(4))
ONE_HOT = jax.nn.one_hot(LABELS, 3)


def model_of(seed=0, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    network = SmallNetwork()
    side, channels = config.resolution, config.channels
    inputs = [jnp.zeros(n) for n in ((1, side, side, channels), (1,), (1, config.label_dim))]
    params = jax.jit(network.init)(jax.random.key(seed), *inputs)["params"]
    return Model.build(config, params).replace(network=network)


@pytest.fixture(scope="module")
def model():
    return model_of()


def by_hand(denoise):
    noise = normal(keys_of(SEEDS)[:, NOISE], (8, 8, 1))
    return edm_jax.sample(denoise, HEUN, noise)


@pytest.mark.slow
def test_the_model_itself_without_its_label_is_the_guide(model):
    cond, uncond = model.denoiser(ONE_HOT), model.denoiser(jnp.zeros((4, 3)))
    free = guidance.classifier_free(cond, uncond, 2.0, interval=(0.2, 5.0), rescale=0.7)
    expected = by_hand(free)
    settings = dict(interval=(0.2, 5.0), rescale=0.7)
    two = generation.guided(model, 2.0, **settings, one_call=False)
    np.testing.assert_array_equal(generation.draw(two, HEUN, SEEDS, LABELS), expected)
    one = generation.guided(model, 2.0, **settings)
    noise = jax.jit(lambda: normal(keys_of(SEEDS)[:, NOISE], (8, 8, 1)))()
    both = jax.jit(lambda x, sigma: (one.denoiser(ONE_HOT)(x, sigma), free(x, sigma)))
    for sigma in (0.1, 0.7, 9.0):  # inside the interval and outside
        np.testing.assert_allclose(*both(noise, sigma), atol=1e-5)
    plain = generation.draw(model, HEUN, SEEDS, LABELS)
    assert np.abs(plain - expected).max() > 0.01


@pytest.mark.parametrize("classes", [3, 0])
def test_another_model_is_the_guide(model, classes):
    guide = model_of(seed=1, label_dim=classes)
    second = guide.denoiser(ONE_HOT if classes else None)
    expected = by_hand(guidance.autoguidance(model.denoiser(ONE_HOT), second, 1.5))
    guided = generation.guided(model, 1.5, guide=guide)
    np.testing.assert_array_equal(generation.draw(guided, HEUN, SEEDS, LABELS), expected)


@pytest.mark.slow
def test_scale_one_is_no_guidance_and_asks_for_no_label_dropout(model):
    untrained = model_of(label_dropout=0.0)
    plain = generation.draw(untrained, HEUN, SEEDS, LABELS)
    guided = generation.guided(untrained, 1.0)
    np.testing.assert_array_equal(generation.draw(guided, HEUN, SEEDS, LABELS), plain)
    # As a function it is not seen through, and is guidance of scale 1.
    free = generation.guided(model, lambda sigma: 1.0).denoiser(ONE_HOT)
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 1)).astype(np.float32)
    both = jax.jit(lambda x: (free(x, 0.7), model.denoiser(ONE_HOT)(x, 0.7)))
    np.testing.assert_allclose(*both(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", ["static", 0.9])
def test_thresholds_come_last(model, threshold):
    free = guidance.classifier_free(model.denoiser(ONE_HOT), model.denoiser(), 4.0)
    last = guidance.clip(free) if threshold == "static" else guidance.dynamic_threshold(free, 0.9)
    guided = generation.guided(model, 4.0, threshold=threshold, one_call=False)
    drawn = generation.draw(guided, HEUN, SEEDS, LABELS)
    np.testing.assert_array_equal(drawn, by_hand(last))
    assert np.abs(drawn - by_hand(free)).max() > 0.01


def images(model, sampler, devices, **options):
    parts = generation.generate(model, sampler, range(9), batch_size=2, devices=devices, **options)
    return np.concatenate([part.images for part in parts])


@pytest.mark.slow
def test_an_image_is_the_same_bytes_on_any_number_of_devices(model):
    guided = generation.guided(model, 2.0, guide=model_of(seed=1), interval=(0.2, 5.0))
    sampler = samplers.euler_ancestral(timesteps.edm(4))
    eight = images(guided, sampler, 8)
    np.testing.assert_array_equal(images(guided, sampler, 1), eight)
    assert (eight != images(guided, sampler, 8, classes=1)).any()


@pytest.mark.slow
def test_a_rule_of_ones_own_with_a_memory(model):
    def rule(labels, model, guide):
        given = model.denoiser(labels), guide.denoiser(labels)
        return guidance.adaptive_projected(*given, 3.0, momentum=-0.5)

    guide = model_of(seed=1)
    guided = edm_jax.Guided(rule, (model, guide))
    expected = by_hand(rule(ONE_HOT, model, guide))
    np.testing.assert_array_equal(generation.draw(guided, HEUN, SEEDS, LABELS), expected)
    sampler = edm_jax.sampler_for(guided, 3)
    (part,) = edm_jax.generate(guided, sampler, SEEDS, labels=LABELS, batch_size=4, devices=1)
    assert part.finite.all() and part.images.std() > 0


def test_a_model_of_former_times_was_not_trained_without_labels():
    record = json.loads(CONFIG.to_json())
    del record["label_dropout"]
    former = ModelConfig.from_dict(record)
    assert former.label_dropout == 0.0
    with pytest.raises(ValueError, match="trained without label dropout"):
        generation.guided(model_of(label_dropout=former.label_dropout), 2.0)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            {"guide": {"resolution": 16}},
            r"guide must have images of \(8, 8, 1\).*got \(16, 16, 1\)",
        ),
        (
            {"guide": {"label_dim": 2}},
            "guide must have 3 classes, as the model has, or none, got 2",
        ),
        ({"guide": {"class_names": ("a", "c", "b")}}, "guide must have the classes .*'c' for 'b'"),
        ({"guide": {"preconditioner": "consistency"}}, "guide must be a denoiser where the model"),
        ({"scale": float("nan")}, "scale must be a finite number"),
        ({"interval": (2.0, 1.0)}, "interval must be"),
        ({"rescale": 2.0}, "rescale must lie in"),
        ({"threshold": 2.0}, "threshold must lie in"),
        ({"threshold": "dynamic"}, "threshold must be a number, got 'dynamic'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_when_the_model_is_guided(wrong, message):
    model = model_of(class_names=("a", "b", "c"))
    if "guide" in wrong:
        wrong = {"guide": model_of(seed=1, **wrong["guide"])}
    with pytest.raises(ValueError, match=message):
        generation.guided(model, **{"scale": 2.0, **wrong})


def test_no_labels_no_classifier_free_guidance():
    with pytest.raises(ValueError, match="guide must be another model where the model has no lab"):
        generation.guided(model_of(label_dim=0), 2.0)


def test_a_sampler_that_asks_for_a_variance_is_refused(model):
    guided = generation.guided(model, 2.0)
    loop = samplers.Loop(lambda *_: None, nfe=1, stochastic=False, variance=True)
    with pytest.raises(ValueError, match="asks for no variance for a guided model"):
        generation.generate(guided, loop, [0])
