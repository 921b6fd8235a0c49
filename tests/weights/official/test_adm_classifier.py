"""guided-diffusion's classifiers as files, and what is no such file."""

import jax
import numpy as np
import pytest
from adm_files import archive, shapes

from edm_jax.networks import layers
from edm_jax.weights import load, save
from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import adm_classifier, guided_diffusion, state_dicts, torch_tensors


def classifier_shapes(width, mults, num_blocks, attention, side, classes=1000):
    """Names and shapes of a classifier: those of ADM's encoder, and the attention pool's."""
    unet = shapes(width, mults, num_blocks, attention, classes)
    kept = ("time_embed.", "input_blocks.", "middle_block.", "out.0.")
    found = {name: shape for name, shape in unet.items() if name.startswith(kept)}
    channels = mults[-1] * width
    return found | {
        "out.0.weight": (channels,),
        "out.0.bias": (channels,),
        "out.2.positional_embedding": (channels, side**2 + 1),
        "out.2.qkv_proj.weight": (3 * channels, channels, 1),
        "out.2.qkv_proj.bias": (3 * channels,),
        "out.2.c_proj.weight": (classes, channels, 1),
        "out.2.c_proj.bias": (classes,),
    }


@pytest.fixture(scope="module")
def weights(golden):
    return {
        name.removeprefix("weights/"): value.astype(np.float32)
        for name, value in golden("classifier.npz").items()
        if name.startswith("weights/")
    }


def loaded(weights, **changes):
    settings = dict(resolution=8, num_blocks=1, head_channels=32) | changes
    return adm_classifier.from_state_dict(weights, **settings)


def test_a_file_is_read_and_refused_where_it_does_not_say_what_it_is(weights, tmp_path):
    file = torch_tensors.read_any(archive(weights), torch_tensors.TENSOR_GLOBALS)
    assert adm_classifier.recognises(file.value) and not guided_diffusion.recognises(file.value)
    read = state_dicts.weights_of(file)
    jax.tree.map(np.testing.assert_array_equal, loaded(read).params, loaded(weights).params)
    path = tmp_path / "classifier.pt"
    path.write_bytes(archive(weights))
    with pytest.raises(WeightsError, match=r"classifier\.pt: must be one of guided-diffusion's cl"):
        load(path)


@pytest.mark.parametrize("name", ["classifier", "classifier.safetensors"])
def test_it_is_saved_and_loaded(weights, tmp_path, name):
    model = loaded(weights)
    save(model, tmp_path / name)
    again = load(tmp_path / name)
    assert again.config == model.config
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


@pytest.mark.parametrize(
    "resolution, mults, num_blocks, betas",
    [
        (64, (1, 2, 3, 4), 4, "cosine"),
        (128, (1, 1, 2, 3, 4), 2, "linear"),
        (256, (1, 1, 2, 2, 4, 4), 2, "linear"),
        (512, (0.5, 1, 1, 2, 2, 4, 4), 2, "linear"),
    ],
)
def test_the_published_ones_are_told_apart(monkeypatch, resolution, mults, num_blocks, betas):
    attention = {level for level in range(len(mults)) if resolution >> level in (32, 16, 8)}
    sizes = classifier_shapes(128, mults, num_blocks, attention, side=8)
    empty = {name: np.broadcast_to(np.float32(0), shape) for name, shape in sizes.items()}
    asked = []
    # Nothing of this size is allocated in a test.
    monkeypatch.setattr(
        adm_classifier, "from_state_dict", lambda weights, **settings: asked.append(settings)
    )
    adm_classifier.from_published(empty)
    assert asked == [dict(resolution=resolution, num_blocks=num_blocks, betas=betas)]
    missing = {name: value for name, value in empty.items() if "input_blocks.4.1" not in name}
    if any("input_blocks.4.1" in name for name in empty):
        with pytest.raises(WeightsError, match="must be one of"):
            adm_classifier.from_published(missing)


def changed(weights, name, value):
    rest = {key: other for key, other in weights.items() if key != name}
    return rest if value is None else {**rest, name: value}


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("out.2.qkv_proj.bias", None, r"missing: model\.out_pool\.qkv\.bias"),
        ("out.2.positional_embedding", np.zeros((64, 65), np.float32), r"misshapen: .*positional"),
        ("out.2.c_proj.weight", np.zeros((10, 64, 3), np.float32), "misshapen: .*out_pool"),
        ("out.2.c_proj.weight", np.zeros((10, 64), np.float32), "must have 3 axes"),
        ("out.2.qkv_proj.weight", np.zeros((9, 3, 1), np.float32), "3 × 32 output channels"),
        ("time_embed.0.weight", None, "time_embed.0.weight is missing"),
        ("input_blocks.1.0.op.weight", np.zeros((32, 32, 3, 3), np.float32), "unknown tensor"),
        (
            "input_blocks.2.0.op.weight",
            np.zeros((32, 32, 3, 3), np.float32),
            r"extra: .*_down\.aff",
        ),
        ("input_blocks.4.0.in_layers.0.bias", np.zeros(64, np.float32), "not a whole .* 1 blocks"),
    ],
)
def test_what_does_not_fit(weights, name, value, message):
    with pytest.raises(WeightsError, match=message):
        loaded(changed(weights, name, value))


def test_the_adaptive_pool(weights):
    weights = {name: value for name, value in weights.items() if not name.startswith("out.2.")}
    kernel = np.arange(640, dtype=np.float32).reshape(10, 64)
    weights |= {"out.3.weight": kernel[..., None, None], "out.3.bias": kernel[:, 0]}
    assert adm_classifier.recognises(weights)
    model = loaded(weights)
    assert model.config.pool == "adaptive"
    np.testing.assert_array_equal(model.params["out_linear"]["kernel"], kernel.T)


@pytest.mark.slow
def test_strided_convolutions_between_the_levels(weights):
    """`resblock_updown=False`: the second of every two pixels of a convolution is left out."""
    block = "input_blocks.2.0."
    kept = {name: value for name, value in weights.items() if not name.startswith(block)}
    width = weights[f"{block}in_layers.2.bias"].shape[0]
    kernel = np.cos(np.arange(9 * width**2, dtype=np.float32)).reshape(width, width, 3, 3) / width
    kept |= {f"{block}op.weight": kernel, f"{block}op.bias": kernel[:, 0, 0, 0]}
    model = loaded(kept)
    assert model.config.down == "strided"
    x = np.sin(np.arange(2 * 8 * 8 * width, dtype=np.float32)).reshape(2, 8, 8, width)
    params = model.params["enc_4x4_down"]
    whole = layers.Conv(width).apply({"params": params}, x)
    strided = layers.Conv(width, stride=2).apply({"params": params}, x)
    np.testing.assert_allclose(strided, whole[:, ::2, ::2], atol=1e-5)
    # Their pixel (1, 1) sees the nine around (2, 2).
    patch = x[0, 1:4, 1:4].transpose(2, 0, 1)
    expected = (kernel[3] * patch).sum() + kernel[3, 0, 0, 0]
    np.testing.assert_allclose(strided[0, 1, 1, 3], expected, rtol=1e-4)
    apply = jax.jit(model.network.apply)
    logits = apply({"params": model.params}, np.ones((2, 8, 8, 3)), np.zeros(2))
    assert logits.shape == (2, 10) and np.isfinite(logits).all()
    without = {name: value for name, value in kept.items() if "op.bias" not in name}
    with pytest.raises(WeightsError, match=r"missing: model\.enc\.4x4_down\.bias"):
        loaded(without)
