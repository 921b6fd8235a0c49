"""Archives made: pixels exact, bytes the same however they came about, nothing skipped silently."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from edm_jax.data import archive, pool, prepare

RNG = np.random.default_rng(1)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return array


def noise(height, width=None, channels=3):
    shape = (height, width or height, channels) if channels else (height, width or height)
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of 8x8 images."""
    source = tmp_path / "source"
    for i in range(7):
        save(source / ("cat" if i < 3 else "dog") / f"{i}.png", noise(8))
    return source


def stored(path):
    """{name: pixels} of an archive, and its labels."""
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        images = {
            name: np.asarray(Image.open(io.BytesIO(file.read(name))))
            for name in file.namelist()
            if name.endswith(".png")
        }
        return images, json.loads(file.read("dataset.json"))


def test_the_format_of_the_field(folder, tmp_path):
    summary = prepare.prepare(folder, tmp_path / "x.zip")
    images, metadata = stored(tmp_path / "x.zip")
    assert list(images) == [f"00000/img{i:08d}.png" for i in range(7)]
    for i, image in enumerate(images.values()):
        original = Image.open(folder / ("cat" if i < 3 else "dog") / f"{i}.png")
        np.testing.assert_array_equal(image, np.asarray(original))
    assert metadata["labels"] == [[name, int(i >= 3)] for i, name in enumerate(images)]
    assert metadata["classes"] == ["cat", "dog"]
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
    assert summary.line() == f"{tmp_path / 'x.zip'}: 7 images, 8x8 RGB, 2 classes"
    assert archive.load(tmp_path / "x.zip").classes == ("cat", "dog")


def test_an_archive_converts_to_itself(folder, tmp_path):
    prepare.prepare(folder, tmp_path / "x.zip")
    prepare.prepare(tmp_path / "x.zip", tmp_path / "y.zip")
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "y.zip").read_bytes()


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_workers_or_time(tmp_path):
    for i in range(150):  # more than two chunks
        save(tmp_path / "source" / f"{i:03d}.png", noise(6))
    for workers in (0, 2):
        prepare.prepare(tmp_path / "source", tmp_path / f"{workers}.zip", workers=workers)
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def converted(array, **settings):
    """What `transformed` makes of an array: (pixels or None, note)."""
    format_ = prepare.Format(**{"channels": 3, "fixed": False, **settings})
    data, note = prepare.transformed(Image.fromarray(array), format_)
    return None if data is None else np.asarray(Image.open(io.BytesIO(data))), note


def test_center_crop():
    image = noise(9, 14)
    pixels, note = converted(image, transform="center-crop", width=9, height=9)
    np.testing.assert_array_equal(pixels, image[:, 2:11])  # (14 - 9) // 2 = 2
    assert note is None
    image = np.repeat(np.repeat(noise(4, 6), 2, axis=0), 2, axis=1)  # 8 x 12
    pixels, _ = converted(image, transform="center-crop", width=4, height=4)
    expected = Image.fromarray(image[:, 2:10]).resize((4, 4), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(pixels, np.asarray(expected))
    assert converted(noise(5), transform="center-crop", width=8, height=8)[1] == "were enlarged"


def test_center_crop_wide():
    image = noise(10, 16)
    pixels, _ = converted(image, transform="center-crop-wide", width=16, height=8)
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_array_equal(pixels[4:12], image[1:9])
    assert not pixels[:4].any() and not pixels[12:].any()
    tall = noise(40, 16)
    pixels, _ = converted(tall, transform="center-crop-wide", width=16, height=8)
    np.testing.assert_array_equal(pixels[4:12], tall[16:24])
    small = converted(noise(20, 15), transform="center-crop-wide", width=16, height=8)
    assert small == (None, "smaller than 16x8")


def test_without_a_transform_images_are_stretched_and_counted(tmp_path):
    image = save(tmp_path / "a" / "1.png", noise(4, 8))
    summary = prepare.prepare(tmp_path / "a", tmp_path / "x.zip", resolution=4)
    images, _ = stored(tmp_path / "x.zip")
    expected = Image.fromarray(image).resize((4, 4), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(images["00000/img00000000.png"], np.asarray(expected))
    assert "1 were stretched to a square (first 1.png)" in summary.line()


def test_gray_stays_gray_unless_some_are_coloured(tmp_path):
    for i in range(3):
        save(tmp_path / "a" / f"{i}.png", noise(4, channels=0))
    prepare.prepare(tmp_path / "a", tmp_path / "gray.zip")
    assert archive.load(tmp_path / "gray.zip").channels == 1
    colour = save(tmp_path / "a" / "3.png", noise(4))
    prepare.prepare(tmp_path / "a", tmp_path / "mixed.zip")
    dataset = archive.load(tmp_path / "mixed.zip")
    np.testing.assert_array_equal(dataset.images[3], colour)
    assert (dataset.images[0, ..., 0] == dataset.images[0, ..., 2]).all()
    prepare.prepare(tmp_path / "a", tmp_path / "forced.zip", channels=1)
    assert archive.load(tmp_path / "forced.zip").channels == 1


def test_what_is_skipped_is_said_and_leaves_gaps(folder, tmp_path):
    (folder / "cat" / "1.png").write_bytes(b"broken")
    (folder / "dog" / "4.png").write_bytes((folder / "dog" / "4.png").read_bytes()[:80])
    summary = prepare.prepare(folder, tmp_path / "x.zip")
    assert summary.skipped == {"not readable": (2, "cat/1.png")}
    assert "5 images" in summary.line() and "skipped 2 of 7" in summary.line()
    images, metadata = stored(tmp_path / "x.zip")
    assert [name[-5] for name in images] == ["0", "2", "3", "5", "6"]
    assert [label for _, label in metadata["labels"]] == [0, 0, 1, 1, 1]


def test_one_image_without_a_label_leaves_none(folder, tmp_path):
    save(folder / "stray.png", noise(8))
    summary = prepare.prepare(folder, tmp_path / "x.zip")
    assert stored(tmp_path / "x.zip")[1] == {"labels": None}
    assert "no labels" in summary.line()
    assert "1 have no label, so that the archive has none (first stray.png)" in summary.line()


def test_max_images_are_spread_over_the_source(folder, tmp_path):
    prepare.prepare(folder, tmp_path / "x.zip", max_images=4)
    _, metadata = stored(tmp_path / "x.zip")
    assert [label for _, label in metadata["labels"]] == [0, 0, 1, 1]  # images 0, 1, 3, 5


def test_arrays_of_pixels(tmp_path):
    images = noise(5, 5, 0)[None].repeat(3, 0)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([2, 0, 1]))
    prepare.prepare(tmp_path / "a.npz", tmp_path / "x.zip")
    dataset = archive.load(tmp_path / "x.zip")
    np.testing.assert_array_equal(dataset.images[..., 0], images)
    np.testing.assert_array_equal(dataset.targets, [2, 0, 1])


def test_a_stopped_conversion_goes_on(tmp_path, monkeypatch):
    for i in range(200):
        save(tmp_path / "a" / f"{i:03d}.png", noise(4))
    prepare.prepare(tmp_path / "a", tmp_path / "whole.zip")
    honest, seen = pool.imap, []

    def dying(opened, tasks, workers):
        for i, result in enumerate(honest(opened, tasks, workers)):
            if i == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(pool, "imap", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(tmp_path / "a", tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()
    monkeypatch.setattr(pool, "imap", honest)

    class Bar:
        def __init__(self, total, initial, desc, unit):
            seen.append(initial)

        update = seen.append

        def close(self):
            pass

    prepare.prepare(tmp_path / "a", tmp_path / "x.zip", progress=Bar)
    assert seen == [128, 64, 8]
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()
    # Other settings do not go on from it.
    monkeypatch.setattr(pool, "imap", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(tmp_path / "a", tmp_path / "y.zip")
    monkeypatch.setattr(pool, "imap", honest)
    seen.clear()
    prepare.prepare(tmp_path / "a", tmp_path / "y.zip", resolution=2, progress=Bar)
    assert seen[0] == 0
    assert archive.load(tmp_path / "y.zip").resolution == 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX")
def test_a_killed_process_leaves_no_archive_and_is_continued(tmp_path):
    images = noise(16)[None].repeat(1500, 0)
    images[:, 0, 0, 0] = np.arange(1500) % 256
    np.save(tmp_path / "a.npy", images)
    prepare.prepare(tmp_path / "a.npy", tmp_path / "whole.zip", workers=0)
    code = "import sys; from edm_jax.data import prepare; prepare.prepare(*sys.argv[1:], workers=2)"
    command = [sys.executable, "-c", code, tmp_path / "a.npy", tmp_path / "x.zip"]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(pool.ROOT)}
    process = subprocess.Popen(command, env=environment)
    partial = tmp_path / "x.zip.partial"
    while process.poll() is None and not (partial.is_file() and partial.stat().st_size > 100_000):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "x.zip").exists()
    prepare.prepare(tmp_path / "a.npy", tmp_path / "x.zip", workers=0)
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(resolution=(8, 4)), "resolution must be square for none, got 8x4"),
        (
            dict(resolution=8, transform="center-crop-wide"),
            "must be wider than high .* got 8x8",
        ),
        (dict(resolution=0), "resolution must be at least 1, got 0x0"),
        (
            dict(transform="center-crop"),
            "resolution must be given for .*center-crop",
        ),
        (dict(transform="squash"), "transform must be one of none, center-crop"),
        (dict(channels=2), "channels must be 1 or 3, got 2"),
        (dict(max_images=0), "max_images must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(folder, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare.prepare(folder, tmp_path / "x.zip", **settings)


def test_faulty_sources(folder, tmp_path):
    with pytest.raises(ValueError, match="dest must end in .zip"):
        prepare.prepare(folder, tmp_path / "x")
    assert prepare.prepare(folder, tmp_path / "new" / "x.zip").path.is_file()
    (tmp_path / "y.zip").write_bytes(b"")
    with pytest.raises(FileExistsError, match="y.zip: exists already"):
        prepare.prepare(folder, tmp_path / "y.zip")
    prepare.prepare(folder, tmp_path / "y.zip", overwrite=True)
    save(folder / "dog" / "9.png", noise(16))
    message = "source: dog/9.png: image must be 8x8, .* got 16x16: give a resolution"
    with pytest.raises(ValueError, match=message):
        prepare.prepare(folder, tmp_path / "x.zip")
    save(folder / "cat" / "0.png", noise(16, 8))
    with pytest.raises(ValueError, match="first image must be square, got 8x16"):
        prepare.prepare(folder, tmp_path / "x.zip")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of its first images can be read"):
        prepare.prepare(folder, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_part_of_an_archive_of_jpegs(jpeg_archive, tmp_path):
    summary = prepare.prepare(jpeg_archive, tmp_path / "x.zip", max_images=60, workers=0)
    assert summary.format.width == 32 and summary.label_dim == 3 and not summary.skipped
    dataset = archive.load(tmp_path / "x.zip", labels=True)
    assert np.bincount(dataset.targets).tolist() == [20] * 3
    with zipfile.ZipFile(jpeg_archive) as file:
        original = np.asarray(Image.open(io.BytesIO(file.read("airplane/0000.jpg"))))
    np.testing.assert_array_equal(dataset.images[0], original)  # decoded once, kept without loss
