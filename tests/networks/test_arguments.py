"""Bad arguments and inputs are refused, by name, before anything is traced."""

import jax
import jax.numpy as jnp
import network_cases as cases
import pytest

from edm_jax.networks import DhariwalUNet, SongUNet

BASE = dict(img_resolution=8, in_channels=3, out_channels=3, model_channels=16)
BASE |= dict(attn_resolutions=(8,))


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, channels, mult, blocks, nearest",
    [
        (SongUNet, 48, (1, 2), 1, "40 or 64"),
        (SongUNet, 48, (1, 1), 1, None),
        (SongUNet, 132, (1,), 1, "128 or 160"),
        (DhariwalUNet, 48, (1, 2, 3), 1, "32 or 64"),
        (DhariwalUNet, 224, (1,), 1, "192 or 256"),  # 3 heads
    ],
)
def test_widths_that_do_not_divide_name_those_that_do(make, channels, mult, blocks, nearest):
    settings = BASE | dict(channel_mult=mult, num_blocks=blocks, attn_resolutions=(8,))

    def build(model_channels):
        return cases.abstract_params(make(**settings | dict(model_channels=model_channels)))

    if nearest is None:
        assert build(channels)
        return
    with pytest.raises(
        ValueError, match=f"model_channels must .*such as {nearest}, got {channels}"
    ):
        build(channels)
    for width in map(int, nearest.split(" or ")):
        assert build(width)


@pytest.mark.slow
@pytest.mark.parametrize("make", [SongUNet, DhariwalUNet])
def test_every_width_that_is_let_through_can_be_made(make):
    made = 0
    for mult in ((1, 3), (2, 1)):
        settings = BASE | dict(channel_mult=mult, num_blocks=1, attn_resolutions=(8,))
        for channels in (20, 68, 132, 160, 224):
            arguments = settings | dict(model_channels=channels)
            try:
                net = make(**arguments)
            except ValueError:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(make, "_fits", lambda *_: True)
                    with pytest.raises(ValueError, match="must divide into"):
                        cases.abstract_params(make(**arguments))
            else:
                assert cases.abstract_params(net)
                made += 1
    assert 2 < made < 10


@pytest.mark.parametrize("make", [SongUNet, DhariwalUNet])
def test_attention_at_no_level_is_told(make):
    settings = BASE | dict(model_channels=64, channel_mult=(1, 1))
    del settings["attn_resolutions"]
    with pytest.warns(UserWarning, match=r"attn_resolutions must be among .* 8, 4 .*got \(16,\)"):
        make(**settings, attn_resolutions=(16,))
    for silent in ((), (4,), (16, 8)):
        make(**settings, attn_resolutions=silent)
