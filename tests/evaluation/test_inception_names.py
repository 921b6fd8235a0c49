"""NVIDIA's copy of FID's network: every tensor under its name, from an archive with a program."""

import numpy as np
import official_pickles as official
import pytest

from edm_jax.evaluation import inception, inception_names
from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import state_dicts


def names_of(units, prefix=""):
    """The convolutions of our parameters."""
    for name, inner in units.items():
        if name == "conv":
            yield prefix.rstrip(".")
        else:
            yield from names_of(inner, f"{prefix}{name}.")


def test_every_convolution_has_one_name_in_each_file():
    theirs = inception_names.units()
    assert len(theirs) == 94 == len(set(theirs.values()))
    assert set(theirs.values()) == set(names_of(inception.parameter_shapes()))
    # The order within a block is what both files have in common.
    assert theirs["mixed_3.tower.conv_1"] == "Mixed_6a.branch3x3dbl_2"
    assert theirs["mixed_6.tower_1.conv_3"] == "Mixed_6d.branch7x7dbl_4"


def test_the_parts_of_a_convolution():
    values = {"weight": np.ones(2), "beta": np.full(2, 2.0), "mean": np.zeros(2), "var": np.eye(2)}
    given = {f"layers.mixed_9.conv.{part}": value for part, value in values.items()}
    found = inception_names.from_nvidia(given | {"output.weight": np.ones(1), "other": np.ones(1)})
    assert found.keys() == {"fc.weight"} | {
        f"Mixed_7b.branch1x1.{part}"
        for part in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    }
    np.testing.assert_array_equal(found["Mixed_7b.branch1x1.bn.bias"], [2, 2])
    np.testing.assert_array_equal(found["Mixed_7b.branch1x1.bn.weight"], [1, 1])
    head = np.zeros((inception.LOGITS, inception.FEATURES), np.float32)
    with pytest.raises(WeightsError, match="must hold the Inception of FID, with Conv2d_1a_3x3"):
        inception.from_state_dict(given | {"output.weight": head})


def test_a_program_is_not_looked_at(tmp_path):
    path = tmp_path / "inception.pt"
    part, stored = official.script_part, official.script_tensor
    values = {"0": np.arange(6, dtype=np.float32), "1": np.float32([7, 8])}
    conv = part("Unit", training=False, weight=stored("0", 2, 3), beta=stored("1", 2))
    layers = part("Sequential", _is_full_backward_hook=None, conv=conv)
    path.write_bytes(official.script(part("Net", training=False, layers=layers), values))
    weights, digest = state_dicts.read(path)
    assert weights.keys() == {"layers.conv.weight", "layers.conv.beta"} and len(digest) == 64
    np.testing.assert_array_equal(weights["layers.conv.weight"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(weights["layers.conv.beta"], [7, 8])
    path.write_bytes(official.script(part("Net", first=conv, second=conv), values))
    with pytest.raises(WeightsError, match="damaged: second. is no module, or there twice"):
        state_dicts.read(path)
    foreign = part("Net", bad=official.Made(official.Named("os", "system"), ("ls",)))
    path.write_bytes(official.script(foreign, values))
    with pytest.raises(WeightsError, match="names the global 'os.system'"):
        state_dicts.read(path)
    path.write_bytes(official.dumps(part("Net", training=False)))
    assert state_dicts.read(path)[0] == {}
