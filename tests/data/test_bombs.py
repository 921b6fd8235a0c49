"""Small files that say or hold gigabytes: refused in a line, before the memory is taken."""

import io
import json
import struct
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from edm_jax.data import archive, compressed, decode, prepare, sources

LIMIT = 100 << 20  # bytes that reading may take at its peak; each bomb holds more


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch):
    monkeypatch.setattr(compressed, "SPARE", 1 << 20)
    monkeypatch.setattr(decode, "SPARE_PIXELS", 1 << 20)


def refused(read, message):
    """Holds a reading to one line and to little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as raised:
            read()
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)


def png_header(width, height, data=b""):
    """A PNG that says it is so large."""

    def chunk(kind, content):
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def a_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


ZEROS = bytes(150 << 20)


@pytest.mark.parametrize("name", ["a.bmp", "dataset.json"])
def test_a_member_that_unpacks_to_far_more_than_its_bytes(tmp_path, name):
    path = a_zip(tmp_path / "x.zip", {"b.png": png(Image.new("L", (4, 4))), name: ZEROS})
    assert path.stat().st_size < 1 << 20
    refused(lambda: archive.load(path, workers=0), f"{name}: .*must unpack to at most")


def test_a_member_that_is_longer_than_it_says(tmp_path):
    path = a_zip(tmp_path / "x.zip", {"a.png": ZEROS})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", len(ZEROS)), struct.pack("<I", 5000)))
    refused(lambda: archive.load(path, workers=0), "a.png: Bad CRC-32")


def test_a_packing_that_cannot_be_read_in_parts(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.png", bytes(1 << 20))
    refused(
        lambda: archive.load(tmp_path / "x.zip", workers=0), "stored or deflated, got method 14"
    )


@pytest.mark.parametrize("key", ["images", "labels"])
def test_an_npz_that_unpacks_to_far_more_than_its_bytes(tmp_path, key):
    content = {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.arange(2)}
    content[key] = np.zeros(150 << 20, np.uint8)
    np.savez_compressed(tmp_path / "x.npz", **content)
    refused(lambda: sources.open_source(tmp_path / "x.npz"), f"{key}.npy: must unpack to at most")


def test_what_an_npz_does_not_need_is_not_unpacked(tmp_path):
    images = np.zeros((2, 4, 4), np.uint8)
    np.savez_compressed(tmp_path / "x.npz", images=images, other=np.zeros(150 << 20, np.uint8))
    tracemalloc.start()
    assert len(sources.open_source(tmp_path / "x.npz").items) == 2
    assert tracemalloc.get_traced_memory()[1] < LIMIT
    tracemalloc.stop()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_npz_header_that_says_more_than_there_is(tmp_path, version):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.zeros((2, 64, 64), np.uint8), version)
    said = buffer.getvalue().replace(b"(2, 64, 64)", b"(99999,6,6)")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("images.npy", said)
    whole = "must have the bytes of shape .99999, 6, 6., got"
    refused(lambda: sources.open_source(tmp_path / "x.npz"), whole)


@pytest.mark.parametrize("size", [(8000, 8000), (20000, 20000), (65000, 65000)])
@pytest.mark.parametrize("packed", [b"", zlib.compress(bytes(1 << 20))])
def test_an_image_of_too_many_pixels_for_its_bytes(tmp_path, size, packed):
    data = png_header(*size, packed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        refused(lambda: decode.decode(data), "must have at most .* pixels")
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "a.png").write_bytes(png(Image.new("L", (4, 4))))
        (tmp_path / "s" / "b.png").write_bytes(data)
        summary = prepare.prepare(tmp_path / "s", tmp_path / "x.zip", workers=0)
        assert summary.skipped == {"of too many pixels for a file of its length": (1, "b.png")}


@pytest.mark.slow
def test_a_real_png_of_one_colour_within_pillows_own_limit():
    data = png(Image.new("RGB", (9000, 9000)))
    assert len(data) < 300_000
    refused(lambda: decode.decode(data), "must have at most .* pixels in a file of")


def test_photographs_are_within_the_budgets(monkeypatch):
    monkeypatch.undo()
    assert decode.decode(png(Image.new("RGB", (5000, 4000)))).shape == (4000, 5000, 3)


def test_labels_with_as_few_bytes_as_there_can_be_are_read(tmp_path, monkeypatch):
    monkeypatch.undo()
    names = {f"{i:08d}.png": png(Image.new("L", (4, 4))) for i in range(2000)}
    labels = json.dumps({"labels": [[name, 0] for name in names]})
    path = a_zip(tmp_path / "x.zip", {**names, "dataset.json": labels}, compresslevel=9)
    assert archive.load(path, workers=0).label_dim == 1
