"""Archives: every layout read exactly, every fault named with its file."""

import errno
import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from edm_jax.data import archive, dataset_json, decode, digits


def picture(seed, size=8, mode="RGB"):
    shape = (size, size) if mode == "L" else (size, size, len(mode))
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.fromarray(values, mode=None)


def encoded(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path, files, metadata=None):
    """Writes {name: bytes} and dataset.json as a zip, or a folder where there is no suffix."""
    files = dict(files)
    if metadata is not None:
        files["dataset.json"] = json.dumps(metadata).encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, data in files.items():
                file.writestr(name, data)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


@pytest.fixture
def five():
    """Five 8x8 images, named out of order."""
    return {f"{i % 2}/img{i}.png": encoded(picture(i)) for i in (3, 0, 4, 1, 2)}


def test_digits_are_the_published_ones():
    reference = load_digits()
    dataset = archive.load("digits", labels=True)
    expected = np.round(reference.images * 255 / 16)
    np.testing.assert_array_equal(dataset.images[..., 0], expected)
    np.testing.assert_array_equal(dataset.labels.argmax(axis=1), reference.target)
    assert "CC BY 4.0" in digits.notice() and digits.PATH.stat().st_size < 60_000


@pytest.mark.parametrize("container", ["set.zip", "set"])
def test_zip_and_folder_in_the_order_of_names(tmp_path, five, container):
    labels = [[name, int(name[-5])] for name in five]
    path = write(tmp_path / container, five, {"labels": labels, "classes": list("abcde")})
    dataset = archive.load(path)
    order = [0, 2, 4, 1, 3]  # 0/img0, 0/img2, 0/img4, 1/img1, 1/img3
    expected = np.stack([np.asarray(picture(i)) for i in order])
    np.testing.assert_array_equal(dataset.images, expected)
    np.testing.assert_array_equal(dataset.labels, np.eye(5)[order])
    assert (dataset.name, dataset.label_dim, dataset.classes) == ("set", 5, tuple("abcde"))
    unlabelled = archive.load(path, labels=False)
    assert unlabelled.labels.shape == (5, 0) and unlabelled.classes == ()


@pytest.mark.parametrize("path", ["digits", "a.zip"])
def test_there_is_a_name_for_each_class_or_none(tmp_path, five, path):
    if path != "digits":
        labels = [[name, 1] for name in five]
        path = write(tmp_path / path, five, {"labels": labels, "classes": ["a", "b", "absent"]})
    dataset = archive.load(path)
    assert len(dataset.classes) == dataset.label_dim
    assert archive.load(path, labels=False).classes == ()


def test_one_hot_width_is_the_largest_index_plus_one(tmp_path, five):
    path = write(tmp_path / "a.zip", five, {"labels": [[name, 6] for name in five]})
    np.testing.assert_array_equal(archive.load(path).labels, np.eye(7)[[6] * 5])


def test_vectors_stay_as_they_are(tmp_path, five):
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    labels = [[name, vector.tolist()] for name, vector in zip(sorted(five), vectors)]
    dataset = archive.load(write(tmp_path / "a.zip", five, {"labels": labels}))
    np.testing.assert_array_equal(dataset.labels, vectors)
    assert dataset.label_dim == 3


@pytest.mark.parametrize("metadata", [None, {"labels": None}, {}])
def test_no_labels(tmp_path, five, metadata):
    path = write(tmp_path / "a.zip", five, metadata)
    assert archive.load(path).labels.shape == (5, 0)
    with pytest.raises(ValueError, match="a.zip: dataset.json must hold labels, got none"):
        archive.load(path, labels=True)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_formats(tmp_path, kind, mode):
    data = encoded(picture(0, mode=mode), kind, **({"lossless": True} if kind == "webp" else {}))
    images = archive.load(write(tmp_path / "a.zip", {f"a.{kind}": data})).images
    expected = np.asarray(Image.open(io.BytesIO(data))).reshape(1, 8, 8, -1)
    np.testing.assert_array_equal(images, expected)
    assert images.shape[3] == (1 if mode == "L" and kind != "webp" else 3)


def test_other_modes_become_gray_or_colour():
    deep = Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16))
    assert decode.to_array(deep)[0, :, 0].tolist() == [0, 0, 1, 255]
    clear = Image.new("RGBA", (1, 1), (200, 100, 0, 0))
    assert decode.to_array(clear)[0, 0].tolist() == [255, 255, 255]
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode.to_array(palette)[0, 0].tolist() == [10, 20, 30]
    assert decode.to_array(Image.new("1", (1, 1), 1))[0, 0].tolist() == [255]


def test_large_archives_are_mapped_and_decoded_once(tmp_path, five):
    path = write(tmp_path / "a.zip", five)
    cache = tmp_path / "cache"
    plain = archive.load(path).images
    mapped = archive.load(path, memory_limit=100, cache_dir=cache).images
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, plain)
    (file,) = cache.glob("*.npy")
    before = file.stat().st_mtime_ns
    archive.load(path, memory_limit=100, cache_dir=cache)
    assert file.stat().st_mtime_ns == before
    del mapped
    write(path, {**five, "0/img0.png": encoded(picture(99))})  # other content, same names
    again = archive.load(path, memory_limit=100, cache_dir=cache).images
    np.testing.assert_array_equal(again[0], np.asarray(picture(99)))
    assert not list(cache.glob("*.partial"))


def test_what_a_killed_process_left_is_removed(tmp_path, five):
    path, cache = write(tmp_path / "a.zip", five), tmp_path / "cache"
    archive.load(path, memory_limit=100, cache_dir=cache)
    (file,) = cache.glob("*.npy")
    left = file.with_name(f"{file.name}.abc.partial")
    left.write_bytes(b"half")
    file.unlink()
    images = archive.load(path, memory_limit=100, cache_dir=cache).images
    np.testing.assert_array_equal(images, archive.load(path).images)
    assert not left.exists()


def test_a_failed_decoding_leaves_no_cache(tmp_path, five):
    path = write(tmp_path / "a.zip", {**five, "z.png": encoded(picture(9))[:90]})
    with pytest.raises(ValueError, match="z.png"):
        archive.load(path, memory_limit=100, cache_dir=tmp_path / "cache")
    assert [f.suffix for f in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.slow
def test_workers_decode_the_same(tmp_path):
    files = {f"{i:04d}.png": encoded(picture(i, size=64)) for i in range(300)}
    path = write(tmp_path / "a.zip", files)
    shown = []

    class Bar:
        def __init__(self, total, desc, unit):
            assert (total, desc, unit) == (300, "reading a.zip", "img")

        update = shown.append

        def close(self):
            shown.append("closed")

    alone = archive.load(path, workers=0, progress=Bar).images
    assert sum(shown[:-1]) == 300 and shown[-1] == "closed"
    np.testing.assert_array_equal(archive.load(path, workers=2).images, alone)
    bad = write(tmp_path / "b.zip", {**files, "0290.png": encoded(picture(0, size=32))})
    with pytest.raises(ValueError, match="b.zip: 0290.png: image must be 64x64x3, .* got 32x32x3"):
        archive.load(bad, workers=2)


CLASSES = {"names": "abc", "number names": [0, 1, 2], "few names": ["a", "b"]}


def faulty(kind, folder, five):
    """Makes an archive with one fault; returns its path."""
    path = folder / "a.zip"
    first = sorted(five)[0]
    if kind == "truncated":
        return write(path, {**five, "x.png": encoded(picture(0, size=8))[:-60]})
    if kind == "no image":
        return write(path, {**five, "x.png": b"hello"})
    if kind == "mixed":
        return write(path, {**five, "x.png": encoded(picture(0, size=16))})
    if kind == "gray among colour":
        return write(path, {**five, "x.png": encoded(picture(0, mode="L"))})
    if kind == "oblong":
        return write(path, {"x.png": encoded(Image.new("RGB", (8, 4)))})
    if kind == "empty":
        return write(path, {}, {"labels": None})
    if kind == "not a zip":
        path.write_bytes(b"PK nonsense")
        return path
    if kind == "cut zip":
        write(path, five)
        path.write_bytes(path.read_bytes()[:300])
        return path
    if kind == "damaged member":
        write(path, five)
        data = bytearray(path.read_bytes())
        data[100:120] = bytes(20)
        path.write_bytes(data)
        return path
    if kind == "label missing":
        return write(path, five, {"labels": [[name, 0] for name in sorted(five)[1:]]})
    if kind == "long name":
        return write(path, {**five, "x\n" + 3000 * "y" + ".png": b"hello"})
    if kind in CLASSES:
        labels = [[name, 2] for name in sorted(five)]
        return write(path, five, {"labels": labels, "classes": CLASSES[kind]})
    if kind == "json":
        return write(path, {**five, "dataset.json": b"{"})
    labels = {
        "text": "cat",
        "negative": -1,
        "half": [1.0],
        "true": True,
        "nan": [float("nan"), 0],
        "vast": [1e300, 0],
    }
    table = [[name, [1.0, 2.0] if kind in ("half", "nan", "vast") else 0] for name in sorted(five)]
    table[0] = [first, labels[kind]]
    return write(path, five, {"labels": table})


@pytest.mark.parametrize(
    "kind, message",
    [
        ("truncated", "x.png: cannot be decoded"),
        ("no image", "x.png: not an image file"),
        ("long name", "a.zip: x yyyy"),
        ("mixed", "x.png: image must be 8x8x3, as the first one, got 16x16x3"),
        ("gray among colour", "x.png: image must be 8x8x3, as the first one, got 8x8x1"),
        ("oblong", "x.png: images must be square, got 8x4"),
        ("empty", "holds no images"),
        ("not a zip", "not a readable zip file"),
        ("cut zip", "not a readable zip file"),
        ("damaged member", "img3.png: "),
        ("label missing", "dataset.json: has no label for 0/img0.png"),
        ("json", "dataset.json: cannot be read"),
        ("names", "dataset.json: classes must be a list of names"),
        ("number names", "dataset.json: classes must be a list of names"),
        ("few names", "dataset.json: classes must be 3 names or none, got 2"),
        ("text", "labels must be all integers from 0"),
        ("negative", "labels must be all integers from 0"),
        ("half", "labels must be all integers from 0"),
        ("true", "labels must be all integers from 0"),
        ("vast", "labels must be all integers from 0"),
        ("nan", "labels must be all integers from 0"),
    ],
)
def test_faults_are_named_in_one_line(tmp_path, five, kind, message):
    path = faulty(kind, tmp_path, five)
    with pytest.raises(ValueError) as error:
        archive.load(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1500


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.zip: no such file or folder"):
        archive.load(tmp_path / "nothing.zip")


def test_jpeg_members_in_class_folders(jpeg_archive):
    names, _ = archive.members(jpeg_archive)
    assert len(names) == 120
    with decode.opened(jpeg_archive) as read:
        table, classes, _ = dataset_json.label_table(read)
        images = decode.decode_members(read, names[::6])
    assert np.bincount(list(table.values())).tolist() == [40, 40, 40] and classes[1] == "cat"
    with zipfile.ZipFile(jpeg_archive) as file:
        for name, image in zip(names[::6], images, strict=True):
            expected = np.asarray(Image.open(io.BytesIO(file.read(name))))
            np.testing.assert_array_equal(image, expected)


def test_of_two_members_of_one_name_the_later_counts(tmp_path):
    first, second = picture(0), picture(1)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file, pytest.warns(UserWarning):
        for image in (first, second):
            file.writestr("a.png", encoded(image))
    images = archive.load(tmp_path / "x.zip").images
    np.testing.assert_array_equal(images, np.asarray(second)[None])


def test_folders_behind_links_are_read(tmp_path):
    write(tmp_path / "there", {"a.png": encoded(picture(0)), "deep/b.png": encoded(picture(1))})
    write(tmp_path / "set", {"c.png": encoded(picture(2))})
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "there")
    (tmp_path / "set" / "twice").symlink_to(tmp_path / "there" / "deep")
    (tmp_path / "there" / "circle").symlink_to(tmp_path / "set")
    names, _ = archive.members(tmp_path / "set")
    assert names == ["c.png", "linked/a.png", "linked/deep/b.png", "twice/b.png"]


@pytest.mark.parametrize("dtype, bits", [(np.int32, "32 bits"), (np.float32, "floating-point")])
def test_tiffs_without_a_known_white_are_refused(dtype, bits):
    data = encoded(Image.fromarray(np.full((8, 8), 200, dtype)), "tiff")
    with pytest.raises(ValueError, match=f"must have 8 or 16 bits a channel, got .*{bits}"):
        decode.decode(data)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, five, monkeypatch):
    write(tmp_path / "x.zip", five)

    def full(descriptor, offset, size):
        assert os.fstat(descriptor).st_size == offset + size > 5 * 8 * 8 * 3
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device: '.*cache"):
        archive.load(tmp_path / "x.zip", cache_dir=tmp_path / "cache", memory_limit=0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
