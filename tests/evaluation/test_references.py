"""Reference files: the official layout, whole, and of the features that are asked for."""

import pathlib
import pickle

import numpy as np
import pytest

from edm_jax.evaluation import Statistics, load_statistics, references
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


def test_the_images_in_a_file_of_adm_are_for_precision_and_recall(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1), np.uint8)
    path = tmp_path / "VIRTUAL_imagenet.npz"
    extras = {"mu_s": np.zeros(3), "sigma_s": np.eye(3)}
    np.savez(path, images, mu=np.zeros(4), sigma=np.eye(4), **extras)
    found = references.load(path, pixels())
    np.testing.assert_allclose(found.features, images.reshape(6, 4) / 255, rtol=1e-6)
    np.testing.assert_array_equal(found.statistics.covariance, np.eye(4))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_file_of_edm2_has_two_kinds(tmp_path, protocol):
    path, mean = tmp_path / "img512.pkl", np.arange(4.0)
    parts = {"fid": {"mu": mean, "sigma": np.eye(4)}}
    path.write_bytes(pickle.dumps({"num_images": 7, **parts}, protocol))
    by_inception, by_dinov2 = (pixels()._replace(name=name) for name in ("inception", "dinov2"))
    found = references.load(path, by_inception)
    np.testing.assert_array_equal(found.statistics.mean, mean)
    np.testing.assert_array_equal(found.statistics.covariance, np.eye(4))
    assert found.statistics.num == 7 and found.features is None and len(found.sha256) == 64
    with pytest.raises(ValueError, match="img512.pkl: must hold .* of dinov2 features, fd_dinov2"):
        references.load(path, by_dinov2)
    with pytest.raises(ValueError, match="of pixels features, which EDM2 has none of"):
        references.load(path, pixels())
    parts["fd_dinov2"] = {"mu": mean + 1, "sigma": 2 * np.eye(4)}
    path.write_bytes(pickle.dumps({"num_images": 7, **parts}, protocol))
    assert references.load(path, by_dinov2).statistics.mean[0] == 1
    assert load_statistics(path, features="dinov2").covariance[0, 0] == 2


def test_nothing_in_a_pickle_is_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "executed",)

    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps({"fid": {"mu": Bomb(), "sigma": Bomb()}}))
    with pytest.raises(ValueError, match="bomb.pkl: names the global .* nothing was executed"):
        references.load(path, pixels()._replace(name="inception"))
    assert list(tmp_path.iterdir()) == [path]


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
