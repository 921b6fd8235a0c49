"""The configuration for data of one's own fits the network to them."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from configs import own_data
from edm_jax import augment
from edm_jax.model import Model
from edm_jax.training.config import fit


def archive(path, side, spread, count=12):
    """Gray noise of a chosen standard deviation in [-1, 1], in two classes."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as file:
        for i in range(count):
            pixels = np.clip(127.5 + 127.5 * spread * rng.standard_normal((side, side)), 0, 255)
            content = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(content, "png")
            file.writestr(f"{i}.png", content.getvalue())
        labels = [[f"{i}.png", i % 2] for i in range(count)]
        file.writestr("dataset.json", json.dumps({"labels": labels}))
    return str(path)


@pytest.mark.parametrize(
    "side, width, levels, attention",
    [
        (8, 32, (2, 2), (4,)),
        (16, 64, (2, 2), (8,)),
        (28, 96, (2, 2, 2), (14,)),
        (32, 128, (2, 2, 2), (16,)),  # as the paper's CIFAR-10
        (64, 128, (1, 2, 2, 2), (16,)),  # as its FFHQ
        (128, 128, (1, 1, 2, 2, 2), (16,)),
    ],
)
def test_the_network_is_scaled_with_the_images(tmp_path, side, width, levels, attention, recwarn):
    config = own_data.get_config(archive(tmp_path / "x.zip", side, 0.3))
    model = config.model
    assert (model.model_channels, model.channel_mult) == (width, levels)
    assert model.attn_resolutions == attention and config.data.conditional
    dim = augment.label_dim(augment.edm(config.augment)) if config.augment else 0
    fitted = fit(model, resolution=side, channels=1, label_dim=2, augment_dim=dim)
    fitted.network()
    assert not recwarn.list  # attention is at a level that there is


def test_sigma_data_is_the_data_s_in_the_preconditioner_and_in_the_weight(tmp_path):
    config = own_data.get_config(archive(tmp_path / "x.zip", 16, 0.3))
    assert config.model.preconditioner_arguments == {"sigma_data": 0.3}
    fitted = fit(config.model, resolution=16, channels=1, label_dim=2, augment_dim=0)
    model = Model.build(fitted, None)
    assert model.preconditioner.sigma_data == 0.3
    config.loss.build(model)  # takes it from there, and would refuse another


def test_the_digits_are_the_data_without_an_argument():
    config = own_data.get_config()
    assert config.data.archive == "digits" and config.augment == 0.0
    assert config.model.preconditioner_arguments == {"sigma_data": 0.75}
    assert config.model.dropout == 0.25
