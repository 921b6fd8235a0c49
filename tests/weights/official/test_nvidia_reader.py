"""Official snapshots: read whole, executed never, refused clearly."""

import contextlib
import pickle
import random
import re
import sys
import tracemalloc
import types

import numpy as np
import official_pickles as official
import pytest

from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import nvidia

ARGUMENTS = {
    "class_name": "EDMPrecond",
    "img_resolution": 8,
    "img_channels": 3,
    "label_dim": 3,
    "use_fp16": True,
    "model_type": "SongUNet",
    "channel_mult": [1, 2],
    "dropout": 0.13,
}
RNG = np.random.default_rng(0)
WEIGHTS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {
        "model.map_noise.freqs": (4,),
        "model.map_layer0.weight": (5, 8),
        "model.map_layer0.bias": (5,),
        "model.enc.8x8_conv.weight": (6, 3, 3, 3),
        "model.enc.8x8_conv.bias": (6,),
        "model.enc.4x4_down.norm0.weight": (6,),
        "model.enc.4x4_down.conv0.weight": (6, 6, 3, 3),
        "model.enc.4x4_down.conv0.resample_filter": (1, 1, 2, 2),
        "model.dec.8x8_aux_conv.weight": (3, 6, 3, 3),
    }.items()
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("era", ["1.12", "2.x"])
def test_names_order_values_and_arguments(tmp_path, protocol, era):
    marker, modules = tmp_path / "marker", set(sys.modules)
    path = tmp_path / "edm.pkl"
    path.write_bytes(official.snapshot(WEIGHTS, ARGUMENTS, era, protocol, marker))
    weights, arguments = nvidia.read_pickle(path)
    assert list(weights) == list(WEIGHTS)
    for name, value in WEIGHTS.items():
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], value)
    assert arguments == {**ARGUMENTS, "precond": "edm"}
    assert not marker.exists()
    assert not any(name.partition(".")[0] in ("torch", "torch_utils")
                   for name in set(sys.modules) - modules)  # fmt: skip


def test_the_same_bytes_do_execute_when_unpickled(tmp_path, monkeypatch):
    """The stand-in is a real danger, or the test above would show nothing."""
    module = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = lambda meta: exec(meta["module_src"], {})
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)
    marker = tmp_path / "marker"
    source = official.SOURCE.format(marker=str(marker))
    with pytest.raises(SystemExit, match="executed"):
        pickle.loads(official.dumps(official.persistent("EDMLoss", {}, source)))
    assert marker.exists()


def test_arguments_left_at_their_default_come_from_the_attributes():
    state = official.module_state(
        modules={"model": official.persistent("SongUNet", official.module_state(
            parameters={"w": official.parameter(official.tensor(np.ones(2, np.float32)))}))},
        img_resolution=32, img_channels=3, label_dim=0, use_fp16=False,
        beta_d=19.9, beta_min=0.1, M=1000, epsilon_t=1e-5, sigma_min=0.001, sigma_max=152.0,
        _init_args=(32,), _init_kwargs={"img_channels": 3, "dropout": official.scalar(0.25)},
    )  # fmt: skip
    data = official.dumps({"ema": official.persistent("VPPrecond", state)})
    weights, arguments = nvidia.parse_pickle(data)
    assert list(weights) == ["model.w"]
    assert arguments == {
        "class_name": "VPPrecond", "precond": "vp", "img_resolution": 32, "img_channels": 3,
        "label_dim": 0, "use_fp16": False, "dropout": 0.25,
        "beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5,
    }  # fmt: skip


def hostile(place):
    call = official.Made(official.Named("os", "system"), ("touch x",))
    if place == "the network":
        return official.dumps({"ema": call})
    if place == "the loss":
        return official.snapshot(WEIGHTS, ARGUMENTS, loss_fn=call)
    if place == "a hook":
        network = official.network(WEIGHTS, ARGUMENTS)
        network.arguments[0]["state"]["_backward_hooks"] = {0: call}
        return official.dumps({"ema": network})
    if place == "a tensor":
        return official.snapshot({**WEIGHTS, "model.x": call}, ARGUMENTS)
    kind = official.Named("os", "system")
    record = official.tensor(np.ones(3, np.float32), kind=kind)
    return official.snapshot({**WEIGHTS, "model.x": record}, ARGUMENTS)


@pytest.mark.parametrize("place", ["the network", "the loss", "a hook", "a tensor", "a storage"])
def test_a_hostile_global_anywhere_is_named(tmp_path, place):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(hostile(place))
    with pytest.raises(WeightsError, match=r"hostile\.pkl: .*names the global 'os\.system'"):
        nvidia.read_pickle(path)


def wrong(name, record):
    return official.snapshot({**WEIGHTS, f"model.{name}": record}, ARGUMENTS)


def changed(**entries):
    network = official.network(WEIGHTS, ARGUMENTS)
    network.arguments[0].update(entries)
    return official.dumps({"ema": network})


def within_itself():
    network = official.network(WEIGHTS, ARGUMENTS)
    network.arguments[0]["state"]["_modules"]["again"] = network
    return official.dumps({"ema": network})


def twice(depth):
    """2**depth paths through depth objects."""
    inner = official.persistent("Conv2d", official.module_state())
    for _ in range(depth):
        inner = official.persistent(
            "Conv2d", official.module_state(modules={"a": inner, "b": inner})
        )
    return official.dumps({"ema": official.persistent(
        "EDMPrecond", official.module_state(modules={"model": inner}))})  # fmt: skip


def one_storage_many_times():
    record = official.parameter(official.tensor(np.ones(2000, np.float32)))
    many = official.module_state(parameters={f"w{i}": record for i in range(1000)})
    return official.dumps({"ema": official.persistent("EDMPrecond", many)})


INTEGERS = official.tensor(np.arange(3))
WRONG = {
    "nothing": (b"", "empty"),
    "text": (b"<html>404</html>", "not a pickle"),
    "a list": (official.dumps([1]), "not an object of an official snapshot"),
    "no network": (official.dumps({"state_dict": {}, "epoch": 3}), "keys state_dict, epoch"),
    "integers": (wrong("x", INTEGERS), r"tensor 'model\.x' must be of floats, got int64"),
    "no tensor": (wrong("x", "text"), r"tensor 'model\.x' is not a tensor"),
    "another wrapper": (changed(class_name="SongUNet"), "must be wrapped in .*, got a SongUNet"),
    "another version": (changed(version=7), "unknown version"),
    "a function": (changed(type="function"), "unknown version"),
    "no attributes": (changed(state=None), "no attributes"),
    "within itself": (within_itself(), "again occurs within itself or twice"),
    "twice": (twice(20), "occurs within itself or twice"),
    "one storage many times": (one_storage_many_times(), "larger than the file"),
    "bytes after it": (official.snapshot(WEIGHTS, ARGUMENTS) + b"x", "1 bytes after"),
    "odd argument": (
        official.snapshot(WEIGHTS, {**ARGUMENTS, "dropout": {"rate": 0.1}}),
        "constructor argument 'dropout' must be a plain value, got a dict",
    ),
}


@pytest.mark.parametrize("data, message", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said(tmp_path, data, message):
    path = tmp_path / "wrong.pkl"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"wrong\.pkl: .*" + message) as caught:
        nvidia.read_pickle(path)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path / "no.pkl")) + ": No such file"):
        nvidia.read_pickle(tmp_path / "no.pkl")


def test_every_truncation_is_noticed():
    data = official.snapshot(WEIGHTS, ARGUMENTS)
    for length in range(0, len(data), 61):
        with pytest.raises(WeightsError):
            nvidia.parse_pickle(data[:length])


def mutants(data, count, seed):
    """Flipped bits, changed, removed, repeated and swapped pieces."""
    rng = random.Random(seed)
    for _ in range(count):
        new = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            at = rng.randrange(len(new))
            kind = rng.randrange(6)
            if kind <= 1:
                new[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                new[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif kind == 3:
                new[at : at + 4] = rng.choice((b"\xff" * 4, b"\0\0\0\x7f", b"\0" * 4))
            elif kind == 4:
                del new[at : at + rng.randrange(1, 9)]
            else:
                other = rng.randrange(len(new))
                new[at:at] = new[other : other + rng.randrange(1, 40)]
        yield bytes(new)


@pytest.mark.slow
@pytest.mark.parametrize("era, protocol", [("2.x", 4), ("1.12", 2)])
def test_no_mutation_does_more_than_raise_the_error(monkeypatch, era, protocol):
    small = {name: value for name, value in WEIGHTS.items() if value.size < 50}
    monkeypatch.setattr(official, "SOURCE", "raise SystemExit('executed')\n")
    data = official.snapshot(small, ARGUMENTS, era, protocol)
    outcomes = {"read": 0, "refused": 0}
    for mutant in mutants(data, 1500, seed=protocol):
        try:
            weights, _ = nvidia.parse_pickle(mutant)
            outcomes["read"] += 1
            assert sum(value.nbytes for value in weights.values()) <= 2 * len(mutant)
        except WeightsError as error:
            assert len(str(error)) < 2000
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100, outcomes


@pytest.mark.slow
def test_no_mutation_takes_more_memory_than_a_small_multiple_of_the_file():
    data = official.snapshot(WEIGHTS, ARGUMENTS)
    tracemalloc.start()
    for mutant in mutants(data, 150, seed=1):
        with contextlib.suppress(WeightsError):
            nvidia.parse_pickle(mutant)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * len(data)
