"""What a picture holds beside 8 bits of gray or RGB: made right of, or said with a count."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from edm_jax.data import archive, check, decode, loader, prepare, sources

RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (4, 4, 3), np.uint8)
GRAY = RNG.integers(0, 256, (4, 4), np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind, **options):
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    return encoded(red, kind, save_all=True, append_images=[blue], **options)


def clear_corner(mode):
    image = Image.new(mode, (4, 4), (10, 255) if mode == "LA" else (10, 20, 30, 255))
    image.putpixel((0, 0), (10, 0) if mode == "LA" else (10, 20, 30, 0))
    return image


def palette_with_a_clear_colour():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    return encoded(image, transparency=0)


def deep_colour():
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""
    import struct
    import zlib

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    rows = np.stack([COLOUR, 255 - COLOUR], axis=-1).reshape(4, 24)  # high byte, low byte
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    head = chunk(b"IHDR", struct.pack(">2I5B", 4, 4, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


FIRST = "had several frames, of which the first was taken"
CLEAR = "were transparent, and laid over white"
DEEP = "had 16 bits a channel, of which the upper 8 were kept"
RED = np.broadcast_to(np.array([255, 0, 0], np.uint8), (4, 4, 3))
PLAIN = np.broadcast_to(np.array([10, 20, 30], np.uint8), (4, 4, 3)).copy()
ON_WHITE = PLAIN.copy()
ON_WHITE[0, 0] = 255
GRAY_ON_WHITE = np.full((4, 4, 1), 10, np.uint8)
GRAY_ON_WHITE[0, 0] = 255
OPAQUE = Image.new("RGBA", (4, 4), (10, 20, 30, 255))
CASES = {
    "animated GIF": ("a.gif", lambda: frames("GIF"), RED, (FIRST,)),
    "APNG": ("a.png", lambda: frames("PNG"), RED, (FIRST,)),
    "animated WebP": ("a.webp", lambda: frames("WEBP", lossless=True), RED, (FIRST,)),
    "TIFF of two pages": ("a.tif", lambda: frames("TIFF"), RED, (FIRST,)),
    "GIF of one frame": (
        "a.gif", lambda: encoded(Image.new("RGB", (4, 4), "red"), "GIF"), RED, (),
    ),
    "RGBA": ("a.png", lambda: encoded(clear_corner("RGBA")), ON_WHITE, (CLEAR,)),
    "LA": ("a.png", lambda: encoded(clear_corner("LA")), GRAY_ON_WHITE, (CLEAR,)),
    "opaque RGBA": ("a.png", lambda: encoded(OPAQUE), PLAIN, ()),
    "a palette's clear colour": ("a.png", palette_with_a_clear_colour, ON_WHITE, (CLEAR,)),
    "a palette": (
        "a.png", lambda: encoded(Image.fromarray(PLAIN).convert("P", palette=1)), PLAIN, (),
    ),
    "16 bits of gray": (
        "a.png",
        lambda: encoded(Image.fromarray(GRAY.astype(np.uint16) * 256 + 77)),
        GRAY[..., None],
        (DEEP,),
    ),
    "16 bits of colour": ("a.png", deep_colour, COLOUR, (DEEP,)),
    "RGB": ("a.png", lambda: encoded(Image.fromarray(COLOUR)), COLOUR, ()),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_a_picture_is_made_right_of_or_it_is_said(tmp_path, kind):
    name, make, pixels, lost = CASES[kind]
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / name).write_bytes(make())
    with sources.open_source(tmp_path / "s").opened() as read:
        array, said = read(name)
    np.testing.assert_array_equal(array, pixels)
    assert said == lost
    summary = prepare.prepare(tmp_path / "s", tmp_path / "x.zip", workers=0)
    assert summary.notes == dict.fromkeys(lost, (1, name))
    np.testing.assert_array_equal(archive.load(tmp_path / "x.zip").images[0], pixels)


def test_cmyk(tmp_path):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    (tmp_path / "a.jpg").write_bytes(encoded(image, "JPEG", quality=95))
    with sources.open_source(tmp_path).opened() as read:
        array, lost = read("a.jpg")
    assert np.abs(array.astype(int) - [255, 0, 0]).max() <= 3
    assert lost == ("were CMYK, and became RGB without a colour profile",)


def test_sixteen_bits_are_told_from_what_only_has_the_number():
    small = Image.new("RGB", (16, 16))
    for kind in ("BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP"):
        for options in ({}, {"compression": "tiff_lzw"}) if kind == "TIFF" else ({},):
            with Image.open(io.BytesIO(encoded(small, kind, **options))) as image:
                assert decode.losses(image) == ()
    deep = b"P6 2 1 65535\n" + bytes(range(12))
    with Image.open(io.BytesIO(deep)) as image:
        assert decode.losses(image) == (DEEP,)


def test_an_image_may_have_several_notes_and_each_is_counted(tmp_path):
    for i in range(3):
        image = clear_corner("RGBA") if i else Image.fromarray(COLOUR)
        image.save(tmp_path / f"{i}.png")
    summary = prepare.prepare(tmp_path, tmp_path / "x.zip", resolution=8, channels=1, workers=0)
    assert summary.notes == {
        CLEAR: (2, "1.png"),
        "were enlarged": (3, "0.png"),
        "were in colour, and became gray": (3, "0.png"),
    }
    assert "2 were transparent, and laid over white (first 1.png)" in summary.line()


def test_colour_among_many_gray_images_is_not_flattened_silently(tmp_path):
    for i in range(130):  # more than the sample that decides
        Image.fromarray(COLOUR if i == 1 else GRAY).save(tmp_path / f"{i:03d}.png")
    summary = prepare.prepare(tmp_path, tmp_path / "x.zip", workers=0)
    assert summary.format.channels == 1
    assert summary.notes == {"were in colour, and became gray": (1, "001.png")}


def with_gaps(path, classes):
    path.mkdir()
    names = [f"{i}.png" for i in range(6)]
    for name in names:
        Image.fromarray(RNG.integers(0, 256, (4, 4, 3), np.uint8)).save(path / name)
    labels = [[name, (0, 2, 5)[i % 3]] for i, name in enumerate(names)]
    (path / "dataset.json").write_text(json.dumps({"labels": labels, "classes": classes}))
    return path


@pytest.mark.parametrize("classes", [[], list("abcdef"), list("abcdefgh")])
def test_classes_without_images_are_named_and_keep_their_numbers(tmp_path, classes):
    source = with_gaps(tmp_path / "s", classes)
    summary = prepare.prepare(source, tmp_path / "x.zip", workers=0)
    empty = max(6, len(classes)) - 3
    assert summary.label_dim == 6
    assert summary.notes == {"classes have no image": (empty, "b" if classes else "1")}
    dataset = archive.load(tmp_path / "x.zip")
    assert dataset.label_dim == 6 and dataset.classes == tuple(classes[:6])
    np.testing.assert_array_equal(dataset.labels, np.eye(6, dtype=np.float32)[[0, 2, 5, 0, 2, 5]])
    line = check.report(dataset).lines()[2]
    assert line.endswith("; 3 without images: " + ("b, d, e" if classes else "1, 3, 4"))
    check.contact_sheet(dataset)  # a row for each class that there is
    rows = loader.batch(dataset, seed=0, step=0, batch_size=6)
    np.testing.assert_array_equal(np.unique(rows["labels"].argmax(axis=1)), [0, 2, 5])


def test_names_of_the_classes_that_occur_are_not_enough(tmp_path):
    source = with_gaps(tmp_path / "s", ["a", "c", "f"])
    with pytest.raises(ValueError, match="classes must be 6 names or none, got 3"):
        prepare.prepare(source, tmp_path / "x.zip", workers=0)


def changed_but_for_the_time(path, content):
    """Writes other bytes of the same number, and gives the file its old times."""
    stat = path.stat()
    assert len(content) == stat.st_size
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def fingerprint(path):
    return sources.open_source(path).fingerprint


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_other_arrays_of_the_same_size_and_time_are_others(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    save = np.save if suffix == ".npy" else lambda path, images: np.savez(path, images=images)
    save(path, np.zeros((2, 4, 4), np.uint8))
    before = fingerprint(path)
    assert fingerprint(path) == before
    save(tmp_path / f"y{suffix}", np.ones((2, 4, 4), np.uint8))
    changed_but_for_the_time(path, (tmp_path / f"y{suffix}").read_bytes())
    assert fingerprint(path) != before


def test_another_file_of_the_same_size_and_time_in_a_folder(tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(encoded(Image.new("RGB", (4, 4), 0), "BMP"))
    before = archive.survey(tmp_path).fingerprint
    assert archive.survey(tmp_path).fingerprint == before
    changed_but_for_the_time(path, encoded(Image.new("RGB", (4, 4), 255), "BMP"))
    assert archive.survey(tmp_path).fingerprint != before


def test_another_member_of_the_same_size_in_a_zip(tmp_path):
    path = tmp_path / "x.zip"

    def written(value):
        with zipfile.ZipFile(path, "w") as file:
            member = zipfile.ZipInfo("a.bmp", (1980, 1, 1, 0, 0, 0))
            file.writestr(member, encoded(Image.new("RGB", (4, 4), value), "BMP"))
        return path.read_bytes()

    other, first = written(255), written(0)
    before = archive.survey(path).fingerprint
    assert path.read_bytes() == first
    changed_but_for_the_time(path, other)
    assert archive.survey(path).fingerprint != before


def test_another_value_of_the_same_size_in_an_lmdb(tmp_path):
    import lmdb

    def put(value):
        with lmdb.open(str(tmp_path)) as environment, environment.begin(write=True) as transaction:
            transaction.put(b"key", encoded(Image.new("RGB", (4, 4), value), "BMP"))

    put(0)
    before, stat = fingerprint(tmp_path), (tmp_path / "data.mdb").stat()
    assert fingerprint(tmp_path) == before
    put(255)
    os.utime(tmp_path / "data.mdb", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprint(tmp_path) != before
