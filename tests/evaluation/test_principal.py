"""Principal components of pixels: the directions of largest variance, and files that keep them."""

import numpy as np
import pytest

from edm_jax.evaluation import Statistics, frechet, principal, references
from edm_jax.evaluation.features import pca, pixels

RNG = np.random.default_rng(0)
DATA = RNG.integers(0, 256, (40, 2, 2, 1), np.uint8)
PIXELS = DATA.reshape(40, 4) / 255


def test_known_directions_are_found():
    axes = np.linalg.qr(RNG.standard_normal((4, 4)))[0]
    along = RNG.standard_normal((500, 4))
    along = np.linalg.qr(along - along.mean(0))[0] * [4.0, 3.0, 2.0, 1.0]  # uncorrelated, exactly
    found = principal.fit(along @ axes.T + 0.5, count=2)
    np.testing.assert_allclose(np.abs(axes[:, :2].T @ found.axes), np.eye(2), atol=1e-6)
    np.testing.assert_allclose(found.mean, 0.5, atol=1e-6)
    largest = np.abs(found.axes).argmax(0)
    assert (found.axes[largest, [0, 1]] > 0).all()


def test_all_of_them_are_a_rotation_which_no_distance_sees():
    extractor = pca(principal.fit(PIXELS, count=4))
    found = extractor(DATA, batch_size=8, devices=1)
    np.testing.assert_allclose(np.cov(found.T), np.diag(np.var(found, 0, ddof=1)), atol=1e-7)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-7)
    parts = [DATA[:20], DATA[20:]]
    distances = [
        frechet(*(Statistics.of(by(part, batch_size=8, devices=1)) for part in parts))
        for by in (extractor, pixels())
    ]
    assert distances[0] == pytest.approx(distances[1], rel=1e-5) and distances[0] > 0.01


def test_the_hash_is_that_of_the_fit():
    first, again = (principal.fit(PIXELS, count=2) for _ in range(2))
    assert pca(first).about() == pca(again).about() and len(first.sha256) == 64
    other = principal.fit(PIXELS[1:], count=2)
    assert first.sha256 != other.sha256 != principal.fit(PIXELS, count=3).sha256


def test_a_reference_keeps_what_it_was_fitted_on(tmp_path):
    path = tmp_path / "ref.npz"
    extractor = pca(principal.fit(PIXELS, count=2))
    references.save(path, extractor(DATA, batch_size=8, devices=1), extractor)
    reference, opened = references.opened(path, (2, 2, 1))
    assert opened.about() == extractor.about() and len(reference.statistics.mean) == 2
    np.testing.assert_array_equal(opened.params.axes, extractor.params.axes)
    other = pca(principal.fit(PIXELS[1:], count=2))
    with pytest.raises(ValueError, match="must be of features whose sha256"):
        references.load(path, other)
    references.save(tmp_path / "pixels.npz", PIXELS, pixels())
    with pytest.raises(ValueError, match="must be of features by pca, got 'pixels'"):
        references.fitted(tmp_path / "pixels.npz")


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match=r"components must lie in \[1, 4\], got 5"):
        principal.fit(PIXELS, count=5)
    with pytest.raises(ValueError, match="at most 12288 numbers"):
        principal.fit(np.zeros((2, 12289)))
    with pytest.raises(ValueError, match="images must have 4 numbers"):
        pca(principal.fit(PIXELS, count=1))(np.zeros((1, 3, 3, 1), np.uint8), devices=1)
