"""Sources: the published formats read exactly; hostile and damaged ones refused in a line."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile

import lmdb
import numpy as np
import pytest
from PIL import Image

from edm_jax.data import cifar, compressed, sources

RNG = np.random.default_rng(0)


def as_python2(values):
    """Pickles str, int, list, dict and uint8 arrays with the opcodes of Python 2's cPickle.

    The published archives are made so: protocol 2, byte strings, arrays by `_reconstruct`.
    """

    def put(value):
        if isinstance(value, dict):
            return b"}(" + b"".join(put(k) + put(v) for k, v in value.items()) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(put, value)) + b"e"
        if isinstance(value, str):
            return b"U" + bytes([len(value)]) + value.encode()
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        shape = put(value.shape[0]) + put(value.shape[1]) + b"\x86"
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        dtype += b"J\xff\xff\xff\xffK\x00tb"
        data = b"T" + struct.pack("<i", value.size) + value.tobytes()
        return head + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"

    return b"\x80\x02" + put(values) + b"."


def tar(path, files):
    with tarfile.open(path, "w:gz") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(f"top/{name}")
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def cifar_batch(count, key="labels", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)
    labels = [(seed + i) % 10 for i in range(count)]
    return {"batch_label": "training batch", key: labels, "data": pixels, "filenames": ["a"]}


@pytest.mark.parametrize("dump", [as_python2, lambda v: pickle.dumps(v, 2), pickle.dumps])
def test_cifar10(tmp_path, dump):
    batches = [cifar_batch(3, seed=i) for i in range(1, 7)]
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    files = {name: dump(content) for name, content in zip(names, batches)}
    files["batches.meta"] = dump({"label_names": list("abcdefghij")})
    path = tar(tmp_path / "cifar-10-python.tar.gz", files)
    images, targets, classes = cifar.read(path)
    expected = np.concatenate([b["data"] for b in batches[:5]]).reshape(15, 3, 32, 32)
    np.testing.assert_array_equal(images, expected.transpose(0, 2, 3, 1))
    assert targets.tolist() == [label for b in batches[:5] for label in b["labels"]]
    assert classes == tuple("abcdefghij")
    images, targets, _ = cifar.read(path, split="test")
    assert images[2, 5, 7, 1] == batches[5]["data"][2, 1024 + 5 * 32 + 7]


def test_cifar100(tmp_path):
    files = {"train": as_python2(cifar_batch(4, "fine_labels")), "test": b""}
    files["meta"] = as_python2({"fine_label_names": ["apple", "bee"]})
    path = tar(tmp_path / "cifar-100-python.tar.gz", files)
    source = sources.open_source(path)
    assert source.targets == [0, 1, 2, 3] and source.classes == ("apple", "bee")
    assert source.items.shape == (4, 32, 32, 3)


class Evil:
    """Pickles to a call of os.system."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def evil_pickles(marker):
    yield pickle.dumps(Evil(marker))
    yield pickle.dumps({"data": Evil(marker), "labels": [0]}, 2)
    yield b'cbuiltins\neval\n(S\'open("%s","w")\'\ntR.' % str(marker).encode()
    yield b"cnumpy\nload\n(S'x'\ntR."
    yield b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93."
    yield b"\x80\x02\x82\x01."  # an extension code
    yield b"Pid\n."  # a persistent id


def test_a_hostile_pickle_executes_nothing(tmp_path):
    marker = tmp_path / "was-here"
    for data in evil_pickles(marker):
        path = tar(tmp_path / "cifar-10-python.tar.gz", {"batches.meta": b"", "data_batch_1": data})
        with pytest.raises(ValueError, match="data_batch_1: cannot be read") as error:
            cifar.read(path)
        assert "\n" not in str(error.value)
        assert not marker.exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ([1], "must hold a dict, got a list"),
        ({"labels": [0]}, "must hold the array data and the list labels, got labels"),
        (
            {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
            r"data must have the shape \(1, 3072\).*got \(2, 3072\)",
        ),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [-1]}, "integers from 0"),
        ({"data": np.zeros((1, 3072), np.int64), "labels": [0]}, "must be a uint8 array"),
    ],
)
def test_faulty_cifar_batches(tmp_path, content, message):
    files = {"batches.meta": pickle.dumps({}), "data_batch_1": pickle.dumps(content)}
    path = tar(tmp_path / "cifar-10-python.tar.gz", files)
    with pytest.raises(ValueError, match=message):
        cifar.read(path)


def test_a_cut_tar(tmp_path):
    path = tar(tmp_path / "a.tar.gz", {"batches.meta": RNG.bytes(50_000)})
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ValueError, match="a.tar.gz: damaged gzip file"):
        sources.open_source(path)
    with pytest.raises(ValueError, match="a CIFAR archive must hold train"):
        sources.open_source(tar(tmp_path / "b.tar.gz", {"x": b""}))


def test_a_small_file_does_not_become_any_amount_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "SPARE", 1 << 16)
    bomb = tmp_path / "bomb-idx3-ubyte.gz"
    bomb.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 500, 28, 28) + bytes(500 * 784)))
    with pytest.raises(ValueError, match="bomb-idx3-ubyte.gz: must unpack to at most 65,536 bytes"):
        sources.open_source(bomb)
    path = tar(tmp_path / "bomb.tar.gz", {"batches.meta": bytes(1 << 20)})
    with pytest.raises(ValueError, match="bomb.tar.gz: must unpack to at most"):
        cifar.read(path)


def bombs():
    text = "x" * 100_000
    shared = pickle.dumps(text, 2)[:-1] + b"q\x05"  # as memo 5
    call = b"c_codecs\nencode\nh\x05X\x06\0\0\0latin1\x86R"
    yield "bytes written as texts", b"(" + shared + call * 1000 + b"l."
    yield "must hold a dict", b"\x80\x02K\x01r\xff\xff\xff\x7f."  # memo 2^31 - 1
    yield "cannot be read", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 33) + b"x."


@pytest.mark.parametrize("message, data", list(bombs()), ids=["texts", "memo", "length"])
def test_a_pickle_does_not_become_any_amount_of_memory(tmp_path, message, data):
    path = tar(tmp_path / "cifar-10-python.tar.gz", {"batches.meta": b"", "data_batch_1": data})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            cifar.read(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_sparse_member_is_no_file(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as file:
        info = tarfile.TarInfo("top/batches.meta")
        info.type = tarfile.GNUTYPE_SPARSE
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[483:495] = b"77777777777\0"  # its size, of which nothing is stored
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        file.fileobj.write(header)
        file.offset += len(header)
    with pytest.raises(ValueError, match="a CIFAR archive must hold train"):
        cifar.read(tmp_path / "a.tar")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix):
    images = RNG.integers(0, 256, (5, 28, 28), np.uint8)
    pack = gzip.compress if suffix else bytes
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(pack(struct.pack(">IIII", 0x803, 5, 28, 28) + images.tobytes()))
    labels = tmp_path / f"train-labels-idx1-ubyte{suffix}"
    labels.write_bytes(pack(struct.pack(">II", 0x801, 5) + bytes([5, 0, 4, 1, 9])))
    source = sources.open_source(path)
    np.testing.assert_array_equal(source.items[:, 2:30, 2:30, 0], images)
    assert source.items.shape == (5, 32, 32, 1) and source.items.sum() == images.sum()
    assert source.targets == [5, 0, 4, 1, 9]
    assert sources.open_source(path, pad=False).items.shape == (5, 28, 28, 1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte"):
        sources.open_source(path)


def test_arrays(tmp_path):
    images = RNG.integers(0, 256, (4, 6, 6, 3), np.uint8)
    np.save(tmp_path / "a.npy", images)
    source = sources.open_source(tmp_path / "a.npy")
    np.testing.assert_array_equal(source.items, images)
    assert source.targets is None
    planes, column = images.transpose(0, 3, 1, 2), np.arange(4)[:, None]
    np.savez(tmp_path / "b.npz", x_train=planes, y_train=column)
    source = sources.open_source(tmp_path / "b.npz")
    np.testing.assert_array_equal(source.items, images)
    assert source.targets == [0, 1, 2, 3]
    np.savez(tmp_path / "c.npz", images=images[..., 0], labels=np.eye(4, dtype=np.float32))
    source = sources.open_source(tmp_path / "c.npz")
    assert source.items.shape == (4, 6, 6, 1) and source.targets[1] == [0, 1, 0, 0]


@pytest.mark.parametrize(
    "content, message",
    [
        ({"images": np.zeros((2, 4, 4, 3))}, "must be uint8, got float64"),
        ({"images": np.zeros((2, 4, 4, 5), np.uint8)}, "with 1 or 3 channels, got the shape"),
        ({"pixels": np.zeros(3)}, "must hold an array 'images', got pixels"),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)},
            "one an image, got the shape",
        ),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.ones(2)}, "integers from 0"),
        ({"images": np.array([None])}, "cannot be read"),
    ],
)
def test_faulty_arrays(tmp_path, content, message):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(ValueError, match=message):
        sources.open_source(tmp_path / "a.npz")


def png(value, size=4, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (value,) * 3).save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_folders_are_classes(tmp_path):
    for i, name in enumerate(["dog/x/1.png", "cat/1.png", "cat/2.png", "._cat/3.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(i))
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    source = sources.open_source(tmp_path)
    assert source.items == ["cat/1.png", "cat/2.png", "dog/x/1.png"]
    assert source.targets == [0, 0, 1] and source.classes == ("cat", "dog")
    (tmp_path / "0.png").write_bytes(png(9))
    assert sources.open_source(tmp_path).targets == [None, 0, 0, 1]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["cat/2.png", 7]]}))
    assert sources.open_source(tmp_path).targets == [None, None, 7, None]


def test_photographs_are_turned_upright(tmp_path):
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    with sources.open_source(tmp_path).opened() as read:
        array, lost = read("a.png")
    assert array.shape == (4, 2, 3) and array[0, 1, 0] == 255 and lost == ()


def test_lmdb(tmp_path):
    path = tmp_path / "church_lmdb"
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        for i in range(3):
            transaction.put(b"key%d" % i, png(50 * i))
    source = sources.open_source(path)
    assert source.items == ["key0", "key1", "key2"] and source.targets is None
    with pickle.loads(pickle.dumps(source.opened))() as read:
        assert [read(key)[0][0, 0, 0] for key in source.items] == [0, 50, 100]


def test_unknown_and_missing_sources(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing: no such file or folder"):
        sources.open_source(tmp_path / "nothing")
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="a.mp4: not a known kind of source"):
        sources.open_source(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="holds no images"):
        sources.open_source(tmp_path)


def test_folders_of_an_archive_without_labels_are_no_classes(tmp_path):
    for folder in ("00000", "00001"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        image = RNG.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / "set" / folder / "img.png")
    assert sources.open_source(tmp_path / "set").classes == ("00000", "00001")
    (tmp_path / "set" / "dataset.json").write_text('{"labels": null}')
    found = sources.open_source(tmp_path / "set")
    assert found.targets is None and found.classes == ()


def test_what_is_no_array_in_an_npz_is_not_taken_for_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("images", b"hello")
        file.writestr(3000 * "x", b"")
    with pytest.raises(ValueError, match="a.npz: must hold an array 'images', got"):
        sources.open_source(tmp_path / "a.npz")
