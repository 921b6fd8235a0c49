"""A posterior variance comes back from its file, and what is no such file is named."""

import numpy as np
import pytest

from edm_jax.samplers.analytic import PosteriorVariance
from edm_jax.weights import posterior_variance

MEASURED = PosteriorVariance(np.array([80.0, 1.0, 0.1]), np.array([0.99, 0.8, 1e-3]))


def test_it_comes_back(tmp_path):
    posterior_variance.save(MEASURED, tmp_path / "v.npz")
    again = posterior_variance.load(tmp_path / "v.npz")
    for one, two in zip(again, MEASURED):
        np.testing.assert_array_equal(one, two)
    assert again(0.5) == MEASURED(0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["v.npz"]  # and nothing beside it


def test_a_failed_write_leaves_the_old_file(tmp_path):
    posterior_variance.save(MEASURED, tmp_path / "v.npz")

    class Broken:
        def __array__(self, *_, **__):
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        posterior_variance.save(PosteriorVariance(MEASURED.sigma, Broken()), tmp_path / "v.npz")
    assert posterior_variance.load(tmp_path / "v.npz")(1.0) == MEASURED(1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["v.npz"]


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a": [1.0]}, "must hold sigma and value"),
        ({"sigma": [2.0, 1.0], "value": [0.5]}, "of one shape"),
        ({"sigma": [], "value": []}, "of one shape"),
        ({"sigma": [1.0, 2.0], "value": [0.5, 0.5]}, "descending positive levels"),
        ({"sigma": [2.0, -1.0], "value": [0.5, 0.5]}, "descending positive levels"),
        ({"sigma": [2.0, 1.0], "value": [0.5, np.nan]}, "descending positive levels"),
    ],
)
def test_other_arrays_are_an_error(tmp_path, arrays, message):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        posterior_variance.load(tmp_path / "other.npz")


def test_other_files_are_an_error(tmp_path):
    posterior_variance.save(MEASURED, tmp_path / "v.npz")
    whole = (tmp_path / "v.npz").read_bytes()
    for content in (b"", b"text", whole[:40], whole[:-30]):
        (tmp_path / "v.npz").write_bytes(content)
        with pytest.raises(ValueError, match="must be a"):
            posterior_variance.load(tmp_path / "v.npz")
