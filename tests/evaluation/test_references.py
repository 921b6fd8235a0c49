"""Reference files: the official layout, whole, and of the features that are asked for."""

import numpy as np
import pytest

from edm_jax.evaluation import Statistics, references
from edm_jax.evaluation.features import pixels

FEATURES = np.random.default_rng(0).standard_normal((30, 4), np.float32)


def test_round_trip(tmp_path):
    path = tmp_path / "ref.npz"
    references.save(path, FEATURES, pixels(), keep=10)
    found, expected = references.load(path, pixels()), Statistics.of(FEATURES)
    np.testing.assert_array_equal(found.statistics.covariance, expected.covariance)
    np.testing.assert_array_equal(found.features, FEATURES[::3])
    assert found.statistics.num == 30 and found.extractor["name"] == "pixels"
    with np.load(path) as official:
        assert official["mu"].dtype == official["sigma"].dtype == np.float64
    first = path.read_bytes()
    references.save(path, FEATURES, pixels(), keep=10)
    assert path.read_bytes() == first  # so the hash tells what is in it


def test_others_files_know_statistics_alone(tmp_path):
    np.savez(tmp_path / "ref.npz", mu=np.zeros(4), sigma=np.eye(4))
    found = references.load(tmp_path / "ref.npz", pixels())
    assert found.features is None and found.extractor is None and found.statistics.num is None


def test_other_features_are_refused(tmp_path):
    path = tmp_path / "ref.npz"
    references.save(path, FEATURES, pixels())
    with pytest.raises(ValueError, match="must be of features whose name is 'mine', got 'pixels'"):
        references.load(path, pixels()._replace(name="mine"))
    with pytest.raises(ValueError, match="must be of features whose input"):
        references.load(path, pixels()._replace(input="otherwise"))
    with pytest.raises(ValueError, match="keep must be at least 1"):
        references.save(path, FEATURES, pixels(), keep=0)
    np.savez(path, mu=np.zeros(4), sigma=np.eye(4), features=FEATURES[:, 1:])
    with pytest.raises(ValueError, match="width of mu"):
        references.load(path, pixels())
