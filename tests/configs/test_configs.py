"""The paper's runs: their numbers and networks by shape, and two small steps of each kind."""

import argparse
import ast
import dataclasses
import functools
import io
import json
import pathlib
import re
import shlex
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image
from small_network import instead_of_unets

from edm_jax import augment
from edm_jax.cli import sample
from edm_jax.cli.train import parse
from edm_jax.model import init_params, parameter_count
from edm_jax.networks import ModelConfig
from edm_jax.runtime import engines
from edm_jax.training import loop, metrics
from edm_jax.training.assemble import assemble
from edm_jax.training.config import check, choices, fit

ROOT = pathlib.Path(__file__).parents[2]
RUNS = sorted(path for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")
CLASSES = {
    "imagenet512-latents.zip": 1000,
    "cifar10.zip": 10,
    "imagenet64.zip": 1000,
    "ffhq64.zip": 0,
    "afhqv2-64.zip": 0,
}

# configuration: trainable parameters, tensors (frequencies included), steps of the whole run
PUBLISHED = {
    "cifar10.py": (55_735_299, 419, 390_625),
    "cifar10.py:uncond": (None, None, 390_625),
    "cifar10.py:ncsnpp": (None, None, 390_625),
    "cifar10.py:uncond-ncsnpp": (56_397_827, 422, 390_625),
    "ffhq64.py": (61_805_571, 541, 781_250),
    "ffhq64.py:ncsnpp": (62_761_091, 548, 781_250),
    "afhqv2.py": (61_805_571, 541, 781_250),
    "afhqv2.py:ncsnpp": (62_761_091, 548, 781_250),
    "imagenet64.py": (295_899_267, 541, 610_352),
    "imagenet512_edm2.py": (280_212_837, 203, 1_048_576),
    "imagenet512_edm2.py:xxs": (None, None, 1_048_576),
    "imagenet512_edm2.py:xs-uncond": (124_201_253, 202, 1_048_576),
    "imagenet512_edm2.py:m": (None, None, 1_048_576),
    "imagenet512_edm2.py:l": (None, None, 917_504),
    "imagenet512_edm2.py:xl": (None, None, 655_360),
    "imagenet512_edm2.py:xxl": (None, None, 458_752),
    "imagenet64_edm2.py": (None, None, 524_288),
    "imagenet64_edm2.py:xs": (None, None, 524_288),
    "imagenet64_edm2.py:m": (None, None, 1_048_576),
    "imagenet64_edm2.py:l": (None, None, 524_288),
    "imagenet64_edm2.py:xl": (1_119_276_837, 203, 327_680),
    "ablation.py:F": (55_735_299, 419, 390_625),
    "ablation.py:C-uncond-ncsnpp": (None, None, 390_625),
    "ablation.py:D-ffhq64": (None, None, 781_250),
    "ablation.py:A-ffhq64": (66_715_267, None, 1_562_500),
}


def config_of(text):
    return parse([f"--config={ROOT}/configs/{text}"]).config


def fitted(config):
    archive = pathlib.Path(config.data.archive).name
    return fit(
        config.model,
        config.model.resolution,
        config.model.channels,
        CLASSES[archive] if config.data.conditional else 0,
        augment.label_dim(augment.edm(config.augment)) if config.augment else 0,
    )


@functools.cache
def count_of(text):
    """(parameters, tensors) of a full-size network; equal networks are counted once."""
    model = ModelConfig.from_dict(json.loads(text))
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), model))
    return parameter_count(params), len(jax.tree.leaves(params))


# A full-size network takes a second to trace: one of them is enough for a first look.
COUNTED = {text for text, (parameters, *_) in PUBLISHED.items() if parameters} - {"cifar10.py"}


@pytest.mark.parametrize(
    "text",
    [pytest.param(t, marks=pytest.mark.slow if t in COUNTED else ()) for t in PUBLISHED],
)
def test_networks_and_durations_are_the_published_ones(text):
    config, (parameters, tensors, steps) = config_of(text), PUBLISHED[text]
    check(config, devices=8)
    assert config.total_steps == steps
    if parameters is not None:
        model = dataclasses.replace(fitted(config), dropout=0.0)
        found = count_of(json.dumps(dataclasses.asdict(model)))
        assert found == (parameters, tensors or found[1])


def test_the_paper_s_hyperparameters():
    """Table 7: batch, rate, ramp, half-life, its ramp, dropout, augmentation, flips."""
    names = "batch_size learning_rate rampup_kimg ema_halflife_kimg ema_rampup_ratio augment"
    rows = {
        "cifar10.py": (512, 1e-3, 10_000, 500, 0.05, 0.12, 0.13),
        "ffhq64.py": (256, 2e-4, 10_000, 500, 0.05, 0.15, 0.05),
        "afhqv2.py": (256, 2e-4, 10_000, 500, 0.05, 0.15, 0.25),
        "imagenet64.py": (4096, 1e-4, 10_000, 50_000, 0.05, 0.0, 0.10),
        "ablation.py:A": (128, 2e-4, 640, 887, None, 0.0, 0.10),
    }
    for text, row in rows.items():
        config = config_of(text)
        found = (*(getattr(config, name) for name in names.split()), config.model.dropout)
        assert found == row, text
        assert config.data.xflip == text.startswith("ablation")


def test_edm2_s_hyperparameters():
    """Width, rate, dropout; batches before the rate falls, P_mean, P_std."""
    rows = {
        "imagenet512_edm2.py:xxs": (64, 0.017, 0.0, 70_000, -0.4, 1.0),
        "imagenet512_edm2.py:s": (192, 0.01, 0.0, 70_000, -0.4, 1.0),
        "imagenet512_edm2.py:m": (256, 0.009, 0.1, 70_000, -0.4, 1.0),
        "imagenet512_edm2.py:xxl": (448, 0.0065, 0.1, 70_000, -0.4, 1.0),
        "imagenet64_edm2.py:xs": (128, 0.012, 0.0, 35_000, -0.8, 1.6),
        "imagenet64_edm2.py:l": (320, 0.008, 0.1, 35_000, -0.8, 1.6),
        "imagenet64_edm2.py:xl": (384, 0.007, 0.1, 35_000, -0.8, 1.6),
    }
    for text, row in rows.items():
        config = config_of(text)
        net, levels = config.model, config.loss.arguments
        found = (net.model_channels, config.learning_rate, net.dropout, config.decay_steps)
        assert (*found, levels["p_mean"], levels["p_std"]) == row, text
        assert (config.batch_size, config.rampup_kimg, config.adam_b2) == (2048, 10_000, 0.99)
        assert (config.ema_std, config.ema_power, config.augment) == (0.10, (0.05,), 0.0)
        assert config.loss.uncertainty and config.infinite_gradient == 0
        assert net.channels == (4 if "512" in text else 3)


def changes(before, after, prefix=""):
    """The settings in which two configurations differ."""
    found = set()
    for field in dataclasses.fields(before):
        a, b = getattr(before, field.name), getattr(after, field.name)
        if dataclasses.is_dataclass(a):
            found |= changes(a, b, f"{field.name}.")
        elif a != b:
            found.add(prefix + field.name)
    return found


@pytest.mark.parametrize("rest", ["", "-uncond-ncsnpp", "-ffhq64", "-afhqv2-ncsnpp"])
def test_every_row_of_the_ablation_is_one_step(rest):
    rows = [config_of(f"ablation.py:{row}{rest}") for row in "ABCDEF"]
    steps = [changes(a, b) for a, b in zip(rows, rows[1:])]
    assert steps[0] >= {"batch_size", "rampup_kimg", "ema_halflife_kimg", "model.dropout"}
    assert not steps[0] & {"model.channel_mult", "model.preconditioner", "loss.name", "augment"}
    assert steps[1:] == [
        {"model.channel_mult"},
        {"model.preconditioner"},
        {"loss.name"},
        {"augment", "data.xflip"},
    ]
    data = next((d for d in ("ffhq64", "afhqv2") if d in rest), "cifar10")
    words = "-".join(w for w in rest.split("-") if w in ("uncond", "ncsnpp"))
    assert rows[-1] == config_of(f"{data}.py:{words}")


def test_bad_arguments_of_a_configuration_are_named():
    for text, message in [
        ("cifar10.py:G", "'G'"),
        ("ablation.py:A-F", "must have one of F, E.*got .A-F"),
        ("ffhq64.py:uncond", "'uncond'"),
        ("imagenet64_edm2.py:xxl", "'xxl'"),
    ]:
        with pytest.raises(ValueError, match=message):
            config_of(text)
    assert choices("", ("a", "b")) == ["a"]


def commands(path, program):
    """The words after "python PROGRAM" of every such command in a configuration's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())).replace("\\\n", " ")
    return [shlex.split(found) for found in re.findall(rf"python {program} ([^\"\n]*)", text)]


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_what_a_docstring_says_can_be_typed(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = ast.get_docstring(ast.parse(path.read_text())).lower()
    for words in ("one gpu", "eight", "tpu pod slice", "fid", "published", "time", "data"):
        assert words in text
    trained = commands(path, "train.py")
    assert len(trained) >= 2 and any("gs://" in word for word in trained[-1])
    for words, devices in zip(trained, (1, 8, 32)):
        assert words[1].startswith(f"configs/{path.name}")
        check(parse(words).config, devices)  # microbatches too
    sampled = commands(path, "sample.py")
    assert sampled
    for words in sampled:
        parser = argparse.ArgumentParser(exit_on_error=False)
        sample.add_arguments(parser)
        options = parser.parse_args(words)
        folder = options.classifier or options.checkpoint
        assert any(folder in words for words in trained)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Sixteen coloured images of 16×16 in three classes."""
    path = tmp_path_factory.mktemp("data") / "images.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as file:
        for i in range(16):
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(image, "png")
            file.writestr(f"{i}.png", image.getvalue())
        labels = [[f"{i}.png", i % 3] for i in range(16)]
        file.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


def reduced(config, archive):
    """The same run on small images with a small network, two steps long."""
    # The ADM network has 64 channels a head; NCSN++'s encoder differs from the second level on.
    narrow = {"dhariwal": 64, "edm2": 16}.get(config.model.architecture, 8)
    levels = (1, 2) if getattr(config.model, "encoder_type", "") == "residual" else (1,)
    model = dataclasses.replace(
        config.model, resolution=16, channels=4 if config.model.latents else 3,
        model_channels=narrow, channel_mult=levels, num_blocks=1,
        attn_resolutions=(16,) if levels == (1,) else (8,),
    )  # fmt: skip
    return dataclasses.replace(
        config, model=model, data=dataclasses.replace(config.data, archive=str(archive)),
        batch_size=16, duration_kimg=0.032, log_kimg=0.016, sample_kimg=0.0, microbatch=0,
    )  # fmt: skip


@pytest.mark.slow
def test_two_steps_on_eight_devices(archive, tmp_path, monkeypatch):
    """Augmentation, dropout and labels in the whole loop, with a small network."""
    instead_of_unets(monkeypatch)
    config = reduced(config_of("cifar10.py"), archive)
    assert config.augment and config.model.dropout and config.data.conditional
    assert loop.train(config, str(tmp_path), quiet=True) is None
    first, second = (record["loss"] for record in metrics.read(tmp_path))
    # The first step has learning rate 0: both losses are of the network as it starts.
    assert 0.1 < first < 10 and 0.1 < second < 10


def assembled(text, archive):
    """A reduced run's parts, the number of classes, and whether its data are latents."""
    config = reduced(config_of(text), archive)
    check(config, devices=8)
    labels, latents = 3 if config.data.conditional else 0, config.model.latents
    data = dict(resolution=16, channels=4 if latents else 3, label_dim=labels)
    return assemble(config, engines.engine("jit"), **data), labels, latents


@pytest.mark.parametrize(
    "text",
    ["ffhq64.py", "afhqv2.py:ncsnpp", "ablation.py:E-ffhq64", "ablation.py:C-ncsnpp", "digits.py",
     "cifar10_small.py", "imagenet64_edm2.py", "digits_ect.py"],
)  # fmt: skip
def test_the_others_are_assembled(text, archive):
    parts, _, _ = assembled(text, archive)
    assert callable(parts.step) and parts.schedule(0) >= 0


# One of each network, with labels or without and latents; and one of each preconditioner,
# objective and optimizer, which ask nothing of the network.
NETWORKS = ("cifar10.py:uncond-ncsnpp", "imagenet64.py", "digits_edm2.py", "imagenet512_edm2.py")
STEPS = ("ablation.py:D", "ablation.py:B-afhqv2", "ablation.py:A-uncond-ncsnpp",
         "cifar10_ect.py:hour", "digits_ect.py:meanflow")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("text", NETWORKS + STEPS)
def test_one_of_each_kind_takes_its_step_in_shapes(text, archive, monkeypatch):
    """The same without the arithmetic: the step is traced, not compiled."""
    if text in STEPS:
        instead_of_unets(monkeypatch)
    parts, labels, latents = assembled(text, archive)
    before = jax.eval_shape(parts.initial)
    batch = {
        "images": jax.ShapeDtypeStruct(
            (16, 16, 16, 8 if latents else 3), np.float32 if latents else np.uint8
        ),
        "labels": jax.ShapeDtypeStruct((16, labels), np.float32),
    }
    after, numbers = jax.eval_shape(parts.step, before, batch, jax.random.key(0))
    assert after == before  # the structure, and every array's shape and type
    assert all(numbers[name].shape == () for name in ("loss", "grad_norm", "ema_beta"))
