"""Bad arguments and inputs are refused, by name, before anything is traced."""

import jax
import jax.numpy as jnp
import network_cases as cases
import pytest

from edm_jax.networks import DhariwalUNet, SongUNet

BASE = dict(img_resolution=8, in_channels=3, out_channels=3, model_channels=16)


@pytest.mark.parametrize("make", [SongUNet, DhariwalUNet])
@pytest.mark.parametrize(
    "name, value",
    [
        ("img_resolution", 6),
        ("in_channels", 0),
        ("model_channels", 18),
        ("channel_mult", ()),
        ("channel_mult", (1, 0)),
        ("num_blocks", 0),
        ("label_dim", -1),
        ("dropout", 1.0),
        ("label_dropout", -0.1),
        ("dtype", jnp.int32),
    ],
)
def test_bad_argument(make, name, value):
    with pytest.raises(ValueError, match=name):
        make(**(BASE | {name: value}))


@pytest.mark.parametrize(
    "name", ["embedding_type", "encoder_type", "decoder_type", "resample_filter"]
)
def test_bad_choice(name):
    with pytest.raises(ValueError, match=name):
        SongUNet(**BASE, **{name: (1, 2, 1) if name == "resample_filter" else "other"})


@pytest.mark.parametrize(
    "match, inputs",
    [
        ("x must have shape", dict(x=jnp.zeros((2, 4, 4, 3)))),
        ("x must have shape", dict(x=jnp.zeros((2, 3, 8, 8)))),
        ("c_noise", dict(c_noise=jnp.zeros(3))),
        ("class_labels", dict(class_labels=jnp.zeros((2, 4)))),
        ("class_labels", dict(class_labels=jnp.zeros(3))),
        ("augment_labels", dict(augment_labels=jnp.zeros((3, 9)))),
        ("dropout_keys", dict(dropout_keys=jax.random.key(0))),
        ("dropout_keys", dict(dropout_keys=jnp.zeros((2, 2), jnp.uint32))),
    ],
)
def test_bad_input(match, inputs):
    inputs = dict(x=jnp.zeros((2, 8, 8, 3)), c_noise=jnp.zeros(2)) | inputs
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(lambda: cases.small("ddpmpp").init(jax.random.key(0), **inputs))


def test_labels_for_a_network_without_are_refused():
    net = cases.small("adm", label_dim=0)
    inputs = dict(x=jnp.zeros((2, 8, 8, 3)), c_noise=jnp.zeros(2))
    with pytest.raises(ValueError, match="class_labels"):
        jax.eval_shape(
            lambda: net.init(jax.random.key(0), **inputs, class_labels=jnp.zeros((2, 3)))
        )


def test_heads_that_do_not_divide_are_named():
    net = DhariwalUNet(8, 3, 3, model_channels=200, channel_mult=(1,), attn_resolutions=(8,))
    with pytest.raises(ValueError, match="200 channels do not divide into"):
        cases.abstract_params(net)
