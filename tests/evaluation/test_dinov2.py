"""DINOv2's transformer against its authors', small and with weights that a formula makes."""

import functools
import json

import formula
import jax
import numpy as np
import pytest

from edm_jax.evaluation import dinov2, features
from edm_jax.weights.errors import WeightsError

PLACES = range(4)  # of the images in the golden file


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("inception.npz")


@pytest.fixture(scope="module")
def weights(numbers):
    config = json.loads(str(numbers["dino/config"]))
    d = config["embed_dim"]
    shapes = {
        "cls_token": (1, 1, d), "pos_embed": (1, 1370, d), "norm.weight": (d,), "norm.bias": (d,),
        "patch_embed.proj.weight": (d, 3, 14, 14), "patch_embed.proj.bias": (d,),
    }  # fmt: skip
    for i in range(config["depth"]):
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma",
                     "ls2.gamma", "attn.proj.bias", "mlp.fc2.bias"):  # fmt: skip
            shapes[f"blocks.{i}.{name}"] = (d,)
        for name, out, inner in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1),
                                 ("mlp.fc2", 1, 4)):  # fmt: skip
            shapes[f"blocks.{i}.{name}.weight"] = out * d, inner * d
            shapes[f"blocks.{i}.{name}.bias"] = (out * d,)
    tag = str(numbers["tag"])
    return {name: formula.uniform(tag, name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def run(numbers):
    config = json.loads(str(numbers["dino/config"]))
    head = config["embed_dim"] // config["num_heads"]
    return jax.jit(functools.partial(dinov2.features, head=head))


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_inputs_and_features(numbers, weights, run, place):
    image = numbers[f"image/{numbers['index'][place]}"][None]
    index = numbers["dino/index"]
    x = np.asarray(dinov2.inputs(image))[0]
    np.testing.assert_allclose(x[np.ix_(index, index)], numbers["dino/pre"][place], atol=1e-6)
    found = np.asarray(run(dinov2.from_state_dict(weights), image))[0]
    expected = numbers["dino/features"][place]
    assert np.linalg.norm(found - expected) < 3e-5 * np.linalg.norm(expected)


def test_positions(numbers):
    found = dinov2.resized_positions(numbers["dino/pos_in"].reshape(-1, 3))
    np.testing.assert_allclose(found.reshape(16, 16, 3), numbers["dino/pos_out"], atol=1e-5)


@pytest.mark.parametrize("name", ["cls_token", "blocks.1.mlp.fc2.weight", "norm.bias"])
def test_another_network_is_refused(weights, name):
    with pytest.raises(WeightsError, match="must hold DINOv2's ViT, with"):
        dinov2.from_state_dict({key: value for key, value in weights.items() if key != name})


def test_without_the_file_it_is_said_where_to_get_it(monkeypatch):
    monkeypatch.delenv("EDM_JAX_DINOV2", raising=False)
    with pytest.raises(ValueError, match=r"got none; get it from https://.*vitl14_pretrain\.pth"):
        features.dinov2()
