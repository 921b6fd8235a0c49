"""Data sets of latents: read from every container, kept by a conversion, described, refused."""

import io
import json
import zipfile

import numpy as np
import pytest

from edm_jax import latents
from edm_jax.data import archive, check, loader, moments, prepare, storage, streaming

RNG = np.random.default_rng(0)
MEANS = np.float32(RNG.normal(size=(6, 4, 8, 8)) * np.array(latents.STD)[:, None, None])
MEANS += np.float32(latents.MEAN)[:, None, None]
DEVIATIONS = np.float32(RNG.uniform(0.1, 0.3, size=(6, 4, 8, 8)))
WHOLE = np.concatenate([MEANS, DEVIATIONS], axis=1)
NAMES = [f"{i % 2}/img-mean-std-{i:08d}.npy" for i in range(6)]
ORDER = sorted(range(6), key=lambda i: NAMES[i])


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write(path, files):
    labels = [[name, i % 3] for i, name in enumerate(NAMES)]
    files = {**files, "dataset.json": json.dumps({"labels": labels}).encode()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, data in files.items():
                file.writestr(name, data)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


@pytest.fixture(scope="module", params=["set.zip", "set"])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    return write(folder / request.param, {name: npy(a) for name, a in zip(NAMES, WHOLE)})


def test_latents_are_read_as_they_are(source, tmp_path):
    wanted = WHOLE[ORDER].transpose(0, 2, 3, 1)
    mapped = storage.load(source, kind="mapped", cache_dir=tmp_path).dataset
    for dataset in (archive.load(source), streaming.load(source), mapped):
        assert dataset.latents and dataset.channels == 4 and dataset.resolution == 8
        assert dataset.label_dim == 3 and dataset.images.dtype == np.float32
        np.testing.assert_array_equal(dataset.images[:], wanted)
        rows = loader.batch(dataset, seed=0, step=0, batch_size=4)
        np.testing.assert_array_equal(rows["images"], wanted[loader.permutation(6, 0, 0)[:4]])


def test_a_conversion_keeps_them_and_their_labels(source, tmp_path):
    summary = prepare.prepare(source, tmp_path / "kept.zip")
    assert summary.line().endswith("6 images, 8x8 latents, 3 classes")
    kept, before = archive.load(tmp_path / "kept.zip"), archive.load(source)
    np.testing.assert_array_equal(kept.images, before.images)
    np.testing.assert_array_equal(kept.targets, before.targets)
    with zipfile.ZipFile(tmp_path / "kept.zip") as file:
        assert "00000/img-mean-std-00000003.npy" in file.namelist()
    for name, value in (("resolution", 4), ("channels", 3)):
        with pytest.raises(ValueError, match=f"{name} must be left out for latents, got {value}"):
            prepare.prepare(source, tmp_path / "no.zip", **{name: value})


def test_the_report_is_of_what_a_model_sees(source):
    dataset = archive.load(source)
    found = check.report(dataset)
    x = (MEANS - np.array(latents.MEAN)[:, None, None]) * 0.5
    x = x / np.array(latents.STD)[:, None, None]
    spread = DEVIATIONS * 0.5 / np.array(latents.STD)[:, None, None]
    np.testing.assert_allclose(found.mean, x.mean((0, 2, 3)), atol=1e-6)
    variance = x.var((0, 2, 3)) + (spread**2).mean((0, 2, 3))
    np.testing.assert_allclose(found.std, np.sqrt(variance), rtol=1e-6)
    assert found.sigma_data == pytest.approx(np.sqrt(x.var() + (spread**2).mean()), rel=1e-6)
    assert "size        8x8 latents" in found.lines()
    assert check.contact_sheet(dataset).size[0] > 8


@pytest.mark.parametrize(
    "content, message",
    [
        (npy(WHOLE[0][:4]), "latents must be float32 .8, H, W., .*got 4 channels"),
        (npy(np.zeros((8, 8, 8), np.int32)), "latents must be .* got int32"),
        (npy(-WHOLE[0]), "latents must be finite, and their deviations not negative"),
        (npy(np.full((8, 8, 8), np.nan, np.float32)), "latents must be finite"),
        (npy(WHOLE[0])[:200], "not a .npy file"),
        (npy(np.array([{}], dtype=object)), "not a .npy file .*pickle"),
    ],
    ids=["four channels", "integers", "negative", "not finite", "truncated", "pickled"],
)
def test_files_that_are_no_latents_are_named(tmp_path, content, message):
    path = write(tmp_path / "set.zip", {NAMES[0]: content})
    with pytest.raises(ValueError, match=rf"set\.zip: 0/img-mean-std-00000000\.npy: {message}"):
        archive.load(path)


def test_images_beside_which_there_are_arrays_are_images(tmp_path):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "png")
    files = {NAMES[0]: npy(WHOLE[0]), "a.png": buffer.getvalue()}
    (tmp_path / "set").mkdir()
    for name, data in files.items():
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    assert not archive.load(tmp_path / "set").latents


def test_a_file_is_given_back():
    data = moments.write(WHOLE[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(np.load(io.BytesIO(data)), WHOLE[0])
