"""Guidance by the sample command: the numbers of the library, a record of it, one-line errors."""

import dataclasses
import json

import by_rows
import jax
import numpy as np
import pytest
from PIL import Image
from small_network import model_of

from edm_jax import generation, guidance, samplers, timesteps
from edm_jax.cli.main import main
from edm_jax.data import archive
from edm_jax.generation.seeds import NOISE, keys_of
from edm_jax.model import Model
from edm_jax.networks import ClassifierConfig
from edm_jax.randomness import normal
from edm_jax.weights import save

CLASSIFIER = ClassifierConfig(
    resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,), num_blocks=1,
    attn_resolutions=(), head_channels=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def models(model, tmp_path_factory):
    """Name -> (model, its path)."""
    root = tmp_path_factory.mktemp("models")

    def changed(**changes):
        return Model.build(dataclasses.replace(model.config, **changes), model.params)

    worse = jax.tree.map(lambda p: 0.9 * p, model.params)
    made = {
        "dropped": changed(label_dropout=0.1),
        "plain": model,
        "worse": model.replace(params=worse),
        "large": model_of(dataclasses.replace(model.config, resolution=16)),
        "classifier": jax.jit(Model.init, static_argnums=1)(jax.random.key(1), CLASSIFIER),
        "few": model_of(dataclasses.replace(model.config, label_dim=3)),
    }
    for name, each in made.items():
        save(each, root / name)
    return {name: (each, str(root / name)) for name, each in made.items()}


def draw(models, name, out, *options):
    words = [f"--checkpoint={models[name][1]}", f"--out={out}", "--steps=2", "--solver=euler"]
    return main(["sample", *words, "--seeds=0-1", "--batch=2", "--quiet", *options])


def expected(denoise):
    noise = normal(keys_of(np.arange(2))[:, NOISE], (8, 8, 1))
    images = by_rows.sampled(denoise, samplers.euler(timesteps.edm(2)), noise)
    return np.asarray(generation.to_uint8(images))[..., 0].astype(int)


def drawn(out, folder="."):
    files = [out / folder / f"00000{seed}.png" for seed in range(2)]
    return np.stack([np.asarray(Image.open(file)) for file in files]).astype(int)


@pytest.mark.slow
def test_guided_images_are_those_of_the_library(models, tmp_path):
    (model, _), (guide, path) = models["dropped"], models["worse"]
    three = jax.nn.one_hot(np.array([3, 3]), 10)
    cond, uncond = jax.jit(model.denoiser(three)), jax.jit(model.denoiser())
    free = guidance.classifier_free(cond, uncond, 3.0)
    auto = guidance.autoguidance(cond, jax.jit(guide.denoiser(three)), 3.0)
    parts = guidance.classifier_free(cond, uncond, 3.0, interval=(0.2, 9.0), rescale=0.7)
    cases = {
        "free": (free, []),
        "two": (free, ["--guide=uncond", "--guidance-calls=two"]),
        "auto": (auto, [f"--guide={path}"]),
        "parts": (parts, ["--guidance-interval=0.2,9", "--guidance-rescale=0.7"]),
        "dynamic": (guidance.dynamic_threshold(free, 0.8), ["--threshold=0.8"]),
    }
    seen = []
    for name, (denoise, options) in cases.items():
        out = tmp_path / name
        assert draw(models, "dropped", out, "--class=3", "--guidance=3", *options) == 0
        seen.append(drawn(out, "class003"))
        assert np.abs(seen[-1] - expected(denoise)).max() <= 1, name
    for i, j in ((0, 2), (0, 3), (2, 3)):
        assert np.abs(seen[i] - seen[j]).max() > 2


@pytest.mark.slow
def test_a_classifier_guides(models, tmp_path):
    (model, _), (classifier, path) = models["dropped"], models["classifier"]
    log_prob = guidance.log_prob(classifier.classifier(), jax.nn.one_hot(np.array([3, 3]), 10))
    # What is added is not clipped.
    clipped = jax.jit(guidance.clip(model.denoiser()))
    guided = jax.jit(guidance.classifier(clipped, log_prob, 9.0))
    words = ["--class=3", "--guidance=9", f"--classifier={path}", "--threshold=static"]
    assert draw(models, "dropped", tmp_path, *words) == 0
    seen = drawn(tmp_path, "class003")
    assert np.abs(seen - expected(guided)).max() <= 1
    assert np.abs(seen - expected(clipped)).max() > 2
    record = json.loads((tmp_path / "sample.json").read_text())
    assert len(record["guide"]) == 32 and record["guided_by"]["checkpoint"] == path


@pytest.mark.slow
def test_the_record_tells_it_and_other_guidance_is_refused(models, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--guidance=2", f"--guide={models['worse'][1]}", "--guidance-interval=0.2,1.6"]
    assert draw(models, "plain", out, *options) == 0
    record = json.loads((out / "sample.json").read_text())
    assert record["guidance"] == 2.0 and record["guidance_interval"] == [0.2, 1.6]
    assert len(record["guide"]) == 32 and record["guided_by"]["checkpoint"] == models["worse"][1]
    assert draw(models, "plain", out, *options) == 0
    capsys.readouterr()
    for other in (options[:2], [*options, "--threshold=static"], []):
        assert draw(models, "plain", out, *other) == 2
        assert "choose another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_of_former_times_goes_on_without_guidance(models, tmp_path):
    assert draw(models, "plain", tmp_path) == 0
    record = json.loads((tmp_path / "sample.json").read_text())
    for name in ("guidance", "guide", "guidance_interval", "guidance_rescale", "threshold"):
        assert record.pop(name) is None
    del record["class"]
    (tmp_path / "sample.json").write_text(json.dumps(record))
    assert draw(models, "plain", tmp_path) == 0
    assert draw(models, "plain", tmp_path, "--guidance=1") == 2


@pytest.mark.slow
def test_no_class_draws_without_a_label(models, tmp_path, capsys):
    out = tmp_path / "none"
    assert draw(models, "dropped", out, "--class=none", f"--trajectory={tmp_path}/p.png") == 0
    assert np.abs(drawn(out) - expected(jax.jit(models["dropped"][0].denoiser()))).max() <= 1
    assert archive.load(out).targets is None
    assert draw(models, "dropped", out) == 2  # these would be taken for random classes
    assert "the class None" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("plain", ["--guidance=2"], "guide must be another model where the model was trained with"),
        ("plain", ["--class=none"], "--class must be a class, several, 'all' or 'random' where"),
        ("plain", ["--guidance=2", "--guide=LARGE"], "guide must have images of (8, 8, 1)"),
        ("plain", ["--guidance=2", "--guide=FEW"], "guide must have 10 classes"),
        ("plain", ["--guidance=2", "--guide=/none/there"], "/none/there"),
        ("dropped", ["--guidance=nan"], "--guidance must be a finite number, got nan"),
        ("dropped", ["--guidance=x"], "--guidance"),
        ("dropped", ["--guidance=2", "--guidance-interval=2,1"], "must be LOW,HIGH with 0 <= LOW"),
        ("dropped", ["--guidance=2", "--guidance-interval=2"], "got '2'"),
        ("dropped", ["--guidance=2", "--guidance-rescale=2"], "rescale must lie in [0.0, 1.0]"),
        ("dropped", ["--threshold=3"], "threshold must lie in [0.0, 1.0], got 3.0"),
        ("dropped", ["--threshold=high"], "--threshold must be 'static' or in [0, 1], got 'high'"),
        ("dropped", ["--guide=uncond"], "--guidance must be given with --guide, got none"),
        ("dropped", ["--guidance-calls=two"], "--guidance must be given with --guidance-calls"),
        ("dropped", ["--guidance=2", "--guide-ema=x"], "--guide must be a run's folder with"),
        ("dropped", ["--guidance=2", "--class=none"], "--guide must be another model with --class"),
        ("dropped", ["--guidance=2", "--guide=LARGE", "--guidance-calls=one"],
         "--guidance-calls must be left out"),
        ("dropped", ["--classifier=CLASSIFIER"], "--guidance must be given with --classifier"),
        ("dropped", ["--guidance=2", "--classifier=PLAIN"], "must be a classifier's model"),
        ("few", ["--guidance=2", "--classifier=CLASSIFIER"], "classifier must have 3 classes"),
        ("large", ["--guidance=2", "--classifier=CLASSIFIER"], "classifier must have images of"),
        ("plain", ["--guidance=2", "--classifier=CLASSIFIER"], "without label dropout"),
        ("dropped", ["--guidance=2", "--classifier=CLASSIFIER", "--class=none"],
         "--class must be a class, several, 'all' or 'random' with --classifier, got 'none'"),
        ("dropped", ["--guidance=2", "--classifier=CLASSIFIER", "--guidance-interval=0.2,1"],
         "--guidance-interval must be left out with --classifier, got 0.2,1"),
        ("dropped", ["--guidance=2", "--guide=CLASSIFIER"], "guide must be a denoiser, got a"),
        ("classifier", [], "model must be a denoiser to be drawn from by 'euler'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_input_is_one_line_and_code_2(models, tmp_path, name, options, message, capsys):
    paths = {n.upper(): path for n, (_, path) in models.items()}
    parts = [option.partition("=") for option in options]
    words = [option + equals + paths.get(value, value) for option, equals, value in parts]
    assert draw(models, name, tmp_path / "x", *words) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and error[-1].startswith("error: ")
    assert not (tmp_path / "x").exists()
