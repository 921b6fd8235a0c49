"""Official files as models: the reference's numbers, the round trip, and what does not fit."""

import collections
import json

import jax
import numpy as np
import official_pickles as official
import pytest

from edm_jax import tables
from edm_jax.model import Model
from edm_jax.networks import adm, ddpmpp, edm2
from edm_jax.weights import load, save
from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import nvidia
from edm_jax.weights.official.arguments import arguments_from_config, config_from_arguments

CLASSES = {"vp": "VPPrecond", "ve": "VEPrecond", "iddpm": "iDDPMPrecond", "edm": "EDMPrecond"}
GOLDENS = (
    "ddpmpp_vp_uncond",
    "ncsnpp_ve_uncond",
    "adm_iddpm_cond",
    "adm_edm_cond",
    "ddpmpp_edm_cond_augment",
    "ncsnpp_edm_uncond",
)


def weights_and_arguments(arrays):
    arguments = json.loads(str(arrays["config"]))
    arguments["class_name"] = CLASSES[arguments.pop("precond")]
    del arguments["arch"]
    weights = {
        name.removeprefix("weights/"): value.astype(np.float32)
        for name, value in arrays.items()
        if name.startswith("weights/")
    }
    return weights, arguments


@pytest.fixture(scope="module")
def vp(golden):
    return weights_and_arguments(golden("ddpmpp_vp_uncond.npz"))


def read_through_a_file(arrays, tmp_path):
    weights, arguments = weights_and_arguments(arrays)
    path = tmp_path / "snapshot.pkl"
    path.write_bytes(official.snapshot(weights, arguments))
    return load(path), weights, arguments


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS[:3])
def test_a_snapshot_denoises_as_the_reference(golden, tmp_path, name):
    arrays = golden(f"{name}.npz")
    model, *_ = read_through_a_file(arrays, tmp_path)
    inputs = [arrays.get(key) for key in ("x", "sigma", "class_labels", "augment_labels")]
    denoise = lambda model, x, sigma, *labels: model.denoiser(*labels)(x, sigma)
    found = jax.jit(denoise)(model, *inputs)
    error = np.square(found - arrays["denoised"]).sum((1, 2, 3))
    assert np.all(error <= 1e-10 * np.square(arrays["denoised"]).sum((1, 2, 3)))


@pytest.mark.parametrize("name", GOLDENS)
def test_a_snapshot_is_given_back_bit_for_bit(golden, tmp_path, name):
    model, weights, arguments = read_through_a_file(golden(f"{name}.npz"), tmp_path)
    again, again_arguments = nvidia.to_state_dict(model)
    assert list(again) == list(weights)
    for key, value in weights.items():
        assert again[key].dtype == value.dtype
        np.testing.assert_array_equal(again[key], value)
    assert again_arguments.items() >= arguments.items()
    assert config_from_arguments(again_arguments, u=weights.get("u")) == model.config


@pytest.mark.parametrize("era", ["1.12", "2.x"])
@pytest.mark.parametrize("name", ["edm2_cond", "edm2_uncond"])
def test_a_snapshot_of_edm2_is_given_back_bit_for_bit(golden, tmp_path, name, era):
    weights, arguments = official_arrays(golden(f"{name}.npz"))
    path, marker = tmp_path / "edm2.pkl", tmp_path / "marker"
    path.write_bytes(official.edm2_snapshot(weights, arguments, era, marker))
    model = load(path)
    assert not marker.exists()
    assert model.config.dtype == "float32" and model.config.preconditioner == "edm"
    found, again = nvidia.to_state_dict(model)
    assert list(found) == list(weights)
    for key, value in weights.items():
        assert found[key].dtype == np.float32 and found[key].shape == value.shape
        np.testing.assert_array_equal(found[key], value.astype(np.float32))
    assert again.items() >= arguments.items()
    assert config_from_arguments(again) == model.config
    save(model, tmp_path / "edm2.safetensors")
    assert load(tmp_path / "edm2.safetensors").config == model.config


def official_arrays(arrays):
    """As snapshots of EDM2 hold them, in float16."""
    names = [name for name in arrays if name.startswith("weights/")]
    weights = {name.removeprefix("weights/"): arrays[name].astype(np.float16) for name in names}
    return weights, json.loads(str(arrays["config"]))


def test_what_a_file_of_edm2_leaves_out_is_the_official_default():
    given = {"class_name": "Precond", "img_resolution": 64, "img_channels": 4, "label_dim": 1000}
    found = config_from_arguments({**given, "model_channels": 128, "clip_act": None})
    wanted = edm2(
        resolution=64, channels=4, label_dim=1000, model_channels=128, clip_act=0.0,
        dtype="float16", preconditioner_arguments={"sigma_data": 0.5},
    )  # fmt: skip
    assert found == wanted
    assert arguments_from_config(found)["clip_act"] is None


def test_networks_and_preconditioners_that_do_not_go_together_are_refused():
    shape = {"img_resolution": 8, "img_channels": 3, "label_dim": 0}
    with pytest.raises(WeightsError, match="model_type of the precond 'edm' cannot be 'UNet'"):
        config_from_arguments({"precond": "edm", "model_type": "UNet", **shape})
    with pytest.raises(WeightsError, match="preconditioner must be an official one"):
        arguments_from_config(edm2(preconditioner="vp"))


def test_a_training_state_of_edm2_says_that_it_does_not_say_what_the_network_is():
    tensors = {"unet.out_gain": official.tensor(np.zeros((), np.float32))}
    state = {"state": official.easy_dict(cur_nimg=0), "net": collections.OrderedDict(tensors)}
    with pytest.raises(WeightsError, match="training state of EDM2 does not: take the network-"):
        nvidia.parse_pickle(official.dumps(state))


def without(weights, name):
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: without(w, "model.map_layer0.bias"), r"missing: model\.map_layer0\.bias"),
        (lambda w: {**w, "model.enc.extra.weight": w["model.map_layer0.bias"]},
         r"extra: model\.enc\.extra\.weight"),
        (lambda w: {**w, "model.map_layer0.bias": np.zeros(3, np.float32)},
         r"misshapen: model\.map_layer0\.bias \[3\]"),
        (lambda w: {**w, "model.map_layer0.bias": np.zeros(64, np.int64)},
         r"'model\.map_layer0\.bias' must be of floats, got int64"),
        (lambda w: {**w, "u": np.zeros(1001, np.float32)}, "extra: u"),
    ],
    ids=["missing", "extra", "misshapen", "integers", "a table too many"],
)  # fmt: skip
def test_weights_that_do_not_fit(vp, change, message):
    weights, arguments = vp
    with pytest.raises(WeightsError, match=message):
        nvidia.from_state_dict(change(weights), arguments)


def test_the_file_is_named_when_its_weights_do_not_fit(vp, tmp_path):
    weights, arguments = vp
    path = tmp_path / "half.pkl"
    path.write_bytes(official.snapshot(without(weights, "model.map_layer0.bias"), arguments))
    with pytest.raises(WeightsError, match=r"half\.pkl: .*missing: model\.map_layer0\.bias"):
        load(path)


def test_filters_may_be_absent_but_not_different(golden):
    weights, arguments = weights_and_arguments(golden("ncsnpp_ve_uncond.npz"))
    filters = [name for name in weights if name.endswith("resample_filter")]
    assert filters
    bare = {name: value for name, value in weights.items() if name not in filters}
    again, _ = nvidia.to_state_dict(nvidia.from_state_dict(bare, arguments))
    for name in filters:
        np.testing.assert_array_equal(again[name], weights[name])
    with pytest.raises(WeightsError, match="must be the filter that"):
        nvidia.from_state_dict({**weights, filters[0]: weights[filters[0]] * 2}, arguments)


WRONG_ARGUMENTS = {
    "unknown": ({"num_heads": 4}, "arguments must be among .*, got 'num_heads'"),
    "text": ({"num_blocks": "4"}, "num_blocks must be .*, got '4'"),
    "none": ({"img_resolution": None}, "img_resolution must be .*, got None"),
    "fraction": ({"model_channels": 2.5}, "model_channels must be .*, got 2.5"),
    "negative": ({"label_dim": -1}, "label_dim must be .*, got -1"),
    "no list": ({"channel_mult": 2}, "channel_mult must be .*, got 2"),
    "not a number": ({"dropout": float("nan")}, "dropout must be .*, got nan"),
    "list of texts": ({"channel_mult": ["1"]}, "channel_mult must be"),
    "network": ({"model_type": "UNetModel"}, "model_type must be .*, got 'UNetModel'"),
    "of another wrapper": ({"sigma_data": 0.5}, "arguments must be among .*, got 'sigma_data'"),
    "contradiction": (
        {"precond": "ve"},
        "class_name must be .* where precond is 've', got 'VPPrecond'",
    ),
    "wrapper": ({"precond": "edm3"}, "precond must be .*, got 'edm3'"),
    "out of range": ({"epsilon_t": 2.0}, "epsilon_t"),
    "a thousand blocks": ({"num_blocks": 1000}, "do not fit the network: 144 tensors"),
    "infinite": ({"img_channels": float("inf")}, "img_channels must be .*, got inf"),
    "overflow": ({"beta_d": 1e308}, "the preconditioner's arguments make none"),
    "a list for a name": ({"model_type": ["SongUNet"]}, "model_type must be"),
    "wider than memory": ({"model_channels": 65536}, r"misshapen: model\.dec"),
    "wide": ({"img_resolution": 2**20}, "do not fit the network"),
    "no levels": ({"channel_mult": []}, "channel_mult"),
}


@pytest.mark.parametrize("change, message", WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS.keys())
def test_arguments_that_describe_no_network(vp, change, message):
    weights, arguments = vp
    with pytest.raises(WeightsError, match=message):
        nvidia.from_state_dict(weights, {**arguments, **change})


def test_what_a_file_leaves_out_has_the_official_default():
    least = {"img_resolution": 32, "img_channels": 3}
    song = config_from_arguments({"precond": "vp", **least})
    assert song == ddpmpp(
        channel_mult=(1, 2, 2, 2),
        dropout=0.10,
        preconditioner="vp",
        preconditioner_arguments={
            "beta_d": 19.9, "beta_min": 0.1, "num_train_steps": 1000, "epsilon_t": 1e-5,
        },
    )  # fmt: skip
    wide = config_from_arguments({"class_name": "EDMPrecond", **least, "img_resolution": 64})
    assert wide == adm(preconditioner_arguments={"sigma_data": 0.5})


def test_half_precision_and_ranges_are_kept():
    arguments = {"precond": "edm", "img_resolution": 64, "img_channels": 3, "use_fp16": True,
                 "sigma_min": 0.01, "sigma_max": 50, "sigma_data": 0.25}  # fmt: skip
    config = config_from_arguments(arguments)
    assert config.dtype == "float16"
    model = Model.build(config, {})
    assert (model.preconditioner.sigma_min, model.preconditioner.sigma_max) == (0.01, 50.0)
    assert arguments_from_config(config).items() >= arguments.items()


def test_the_noise_levels_of_iddpm_are_those_of_the_file():
    u = tables.iddpm()
    u[5] *= 1.0001  # any table that is not the computed one
    arguments = {"precond": "iddpm", "img_resolution": 64, "img_channels": 3}
    config = config_from_arguments(arguments, u=u)
    assert config.preconditioner_arguments["u"] == [float(x) for x in u]
    for wrong, message in ((None, "got none"), (u[:-1], "M = 1000"), (u[::-1], "descending")):
        with pytest.raises(WeightsError, match=message):
            config_from_arguments(arguments, u=wrong)


def test_a_preconditioner_without_a_counterpart():
    with pytest.raises(WeightsError, match="must be an official one, .*got 'flow'"):
        arguments_from_config(ddpmpp(preconditioner="flow"))
