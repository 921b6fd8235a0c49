"""Official names and layouts: order, layout, and errors that name the tensor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.networks import DhariwalUNet, SongUNet
from edm_jax.weights.official.names import params_from_state_dict, state_dict_from_params

TAPS = (1, 3, 3, 1)


def abstract(net):
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    return jax.eval_shape(net.init, jax.random.key(0), x, jnp.zeros(1))["params"]


def numbered(tree):
    """The tree with distinct integers in every element."""
    leaves, structure = jax.tree.flatten(tree)
    filled, start = [], 0
    for leaf in leaves:
        filled.append(np.arange(start, start + leaf.size, dtype=np.float32).reshape(leaf.shape))
        start += leaf.size
    return jax.tree.unflatten(structure, filled)


@pytest.fixture(scope="module")
def song():
    net = SongUNet(
        8, 3, 3, label_dim=2, augment_dim=9, model_channels=8, channel_mult=(1, 1), num_blocks=1,
        attn_resolutions=(4,), embedding_type="fourier", encoder_type="skip",
        decoder_type="skip", resample_filter=TAPS,
    )  # fmt: skip
    return numbered(abstract(net))


@pytest.fixture(scope="module")
def weights(song):
    return state_dict_from_params(song, resample_filter=TAPS)


def tensors(name, *parts):
    return [f"{name}.{part}" for part in parts]


def block(name, resample=False, skip=True, attention=False):
    both = ("weight", "bias")
    names = tensors(f"{name}.norm0", *both) + tensors(f"{name}.conv0", *both)
    names += tensors(f"{name}.conv0", "resample_filter") if resample else []
    for layer in ("affine", "norm1", "conv1"):
        names += tensors(f"{name}.{layer}", *both)
    names += tensors(f"{name}.skip", *both) if skip else []
    names += tensors(f"{name}.skip", "resample_filter") if resample else []
    for layer in ("norm2", "qkv", "proj") if attention else ():
        names += tensors(f"{name}.{layer}", *both)
    return names


@pytest.mark.slow
def test_song_names_in_registration_order(weights):
    both = ("weight", "bias")
    expected = ["map_noise.freqs", *tensors("map_label", *both), "map_augment.weight"]
    expected += tensors("map_layer0", *both) + tensors("map_layer1", *both)
    expected += tensors("enc.8x8_conv", *both) + block("enc.8x8_block0", skip=False)
    expected += block("enc.4x4_down", resample=True)
    expected += ["enc.4x4_aux_down.resample_filter", *tensors("enc.4x4_aux_skip", *both)]
    expected += block("enc.4x4_block0", skip=False, attention=True)
    expected += block("dec.4x4_in0", skip=False, attention=True)
    expected += block("dec.4x4_in1", skip=False)
    expected += block("dec.4x4_block0") + block("dec.4x4_block1", attention=True)
    expected += tensors("dec.4x4_aux_norm", *both) + tensors("dec.4x4_aux_conv", *both)
    expected += block("dec.8x8_up", resample=True)
    expected += block("dec.8x8_block0") + block("dec.8x8_block1")
    expected += ["dec.8x8_aux_up.resample_filter"]
    expected += tensors("dec.8x8_aux_norm", *both) + tensors("dec.8x8_aux_conv", *both)
    assert list(weights) == [f"model.{name}" for name in expected]


def test_adm_names_in_registration_order():
    net = DhariwalUNet(
        8, 3, 3, label_dim=2, augment_dim=9, model_channels=64, channel_mult=(1, 1), num_blocks=1
    )
    names = list(state_dict_from_params(abstract_zeros(net), prefix=""))
    assert names[:6] == [
        "map_augment.weight", "map_layer0.weight", "map_layer0.bias", "map_layer1.weight",
        "map_layer1.bias", "map_label.weight",
    ]  # fmt: skip
    down = [name for name in names if name.startswith("enc.4x4_down.")]
    assert "enc.4x4_down.skip.resample_filter" in down
    assert "enc.4x4_down.skip.weight" not in down
    assert names[-4:] == ["out_norm.weight", "out_norm.bias", "out_conv.weight", "out_conv.bias"]


def abstract_zeros(net):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract(net))


def test_layouts(song, weights):
    kernel = song["enc_8x8_conv"]["kernel"]
    conv = weights["model.enc.8x8_conv.weight"]
    assert conv.shape == (8, 3, 3, 3) and conv[5, 2, 0, 1] == kernel[0, 1, 2, 5]
    linear = weights["model.map_layer0.weight"]
    assert linear[7, 3] == song["map_layer0"]["kernel"][3, 7]
    assert (
        weights["model.enc.8x8_block0.norm0.weight"][4]
        == (song["enc_8x8_block0"]["norm0"]["scale"][4])
    )
    taps = np.array(TAPS) / 8
    stored = weights["model.enc.4x4_aux_down.resample_filter"]
    np.testing.assert_allclose(stored, np.outer(taps, taps)[None, None])
    assert all(value.flags.c_contiguous for value in weights.values())


def test_there_and_back_is_exact(song, weights):
    back = params_from_state_dict(weights, song, resample_filter=TAPS)
    assert jax.tree.structure(back) == jax.tree.structure(song)
    jax.tree.map(np.testing.assert_array_equal, back, song)


def test_the_source_is_neither_changed_nor_shared(song, weights):
    back = params_from_state_dict(weights, song)
    back["map_layer0"]["bias"][:] = -1
    assert (weights["model.map_layer0.bias"] != -1).all()


def test_missing_extra_and_misshapen_tensors_are_all_named(song, weights):
    broken = dict(weights)
    del broken["model.map_layer1.bias"]
    broken["model.enc.8x8_block7.conv0.weight"] = np.zeros((8, 8, 3, 3))
    broken["model.map_layer0.weight"] = np.zeros((4, 8))
    with pytest.raises(ValueError) as error:
        params_from_state_dict(broken, song)
    message = str(error.value)
    assert "missing: model.map_layer1.bias;" in message
    assert "extra: model.enc.8x8_block7.conv0.weight;" in message
    assert "misshapen: model.map_layer0.weight [4, 8] (expected [32, 8])" in message


def test_a_network_with_another_filter_is_refused(song, weights):
    with pytest.raises(ValueError, match=r"enc\.4x4_down\.conv0\.resample_filter"):
        params_from_state_dict(weights, song, resample_filter=(1, 1))
