"""The numbers of a data set against numpy, and its contact sheet."""

import numpy as np
import pytest

from edm_jax.data import archive, check


def made(count, targets=None, channels=3, size=4, classes=()):
    images = np.random.default_rng(0).integers(0, 200, (count, size, size, channels), np.uint8)
    images[..., 0] //= 2
    return archive.Dataset(images, targets, "made", classes)


@pytest.mark.parametrize("count, channels", [(7, 3), (5000, 1)])  # 5000: more than one block
def test_moments_are_exact(count, channels):
    dataset = made(count, channels=channels)
    found = check.report(dataset)
    values = dataset.images / 127.5 - 1
    np.testing.assert_allclose(found.mean, values.mean(axis=(0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(found.std, values.std(axis=(0, 1, 2)), atol=1e-12)
    assert abs(found.sigma_data - values.std()) < 1e-12


def test_lines():
    targets = np.array([0, 2, 2, 1, 0], np.int32)
    lines = check.report(made(5, targets, classes=("a", "b", "c"))).lines()
    assert lines[:3] == [
        "images      5",
        "size        4x4 RGB",
        "labels      3 classes of 1 to 2 images (a, b, c)",
    ]
    vectors = np.zeros((5, 6), np.float32)
    assert check.report(made(5, vectors)).lines()[2] == "labels      vectors of 6 numbers"
    assert check.report(made(5)).lines()[2] == "labels      none"


@pytest.mark.parametrize(
    "amplitude, said", [(25, "of 0.39 where 1 is meant"), (45, "serves"), (110, "of 1.7 where")]
)
def test_the_advice_on_sigma_data(amplitude, said):
    signs = np.random.default_rng(0).choice([-1, 1], (9, 4, 4, 1))
    found = check.report(archive.Dataset((127 + amplitude * signs).astype(np.uint8), None, "x"))
    assert found.sigma_data == pytest.approx(amplitude / 127.5, abs=0.01)
    assert said in found.lines()[-1]
    assert "serves" in check.report(archive.load("digits")).lines()[-1]


def test_contact_sheet_shows_each_class_in_its_row():
    colours = np.array([10, 90, 170], np.uint8)
    targets = np.array([2, 0, 1, 0, 2, 2], np.int32)
    images = np.broadcast_to(colours[targets][:, None, None, None], (6, 4, 4, 3))
    dataset = archive.Dataset(images, targets, "made", ("a", "b", "c"))
    sheet = check.contact_sheet(dataset, columns=4)
    pixels = np.asarray(sheet)[:, 200:, 0]  # right of the names
    for row, colour in enumerate(colours):
        at = np.argwhere(pixels == colour)
        others = np.argwhere(np.isin(pixels, colours[row + 1 :]))
        assert len(at) and (not len(others) or at[:, 0].max() < others[:, 0].min())


@pytest.mark.parametrize("count", [1, 3, 250])
def test_contact_sheet_without_labels(count):
    assert min(check.contact_sheet(made(count, size=140 if count == 3 else 4)).size) > 4
