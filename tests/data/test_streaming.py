"""Streaming: the same batches as from memory, from any step, whoever decodes them."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from edm_jax.data import archive, loader, streaming


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for i in range(13):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).save(buffer, "PNG")
            file.writestr(f"{i}.png", buffer.getvalue())
        labels = ", ".join(f'["{i}.png", {i % 4}]' for i in range(13))
        file.writestr("dataset.json", f'{{"labels": [{labels}]}}')
    return tmp_path / "x.zip"


def test_members_index_like_an_array(path):
    images = archive.load(path).images
    lazy = pickle.loads(pickle.dumps(streaming.load(path).images))
    assert lazy.shape == images.shape and len(lazy) == 13
    np.testing.assert_array_equal(lazy[4], images[4])
    np.testing.assert_array_equal(lazy[3:9], images[3:9])
    np.testing.assert_array_equal(lazy[np.array([7, 7, 0])], images[[7, 7, 0]])
    assert lazy[:0].shape == (0, 6, 6, 3)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_batches_are_those_from_memory(path, workers):
    memory, lazy = archive.load(path), streaming.load(path)
    settings = dict(process_index=1, process_count=2, xflip=True)
    with streaming.stream(lazy, 5, 8, start_step=3, workers=workers, **settings) as steps:
        for step in range(3, 8):
            rows, expected = next(steps), loader.batch(memory, 5, step, 8, 1, 2, xflip=True)
            for key in expected:
                np.testing.assert_array_equal(rows[key], expected[key])
        assert steps.waited > 0


def test_grain_restores_its_position(path):
    steps = iter(streaming.batches(streaming.load(path), 1, 4, workers=0))
    next(steps), next(steps)
    state = steps.get_state()
    expected = next(steps)
    other = iter(streaming.batches(streaming.load(path), 1, 4, workers=0))
    other.set_state(state)
    np.testing.assert_array_equal(next(other)["images"], expected["images"])


def test_the_end_and_the_faults(path, tmp_path):
    with streaming.stream(streaming.load(path), 1, 4, stop_step=3, workers=0) as steps:
        assert len(list(steps)) == 3
    with pytest.raises(ValueError, match="batch_size must be a positive multiple"):
        streaming.stream(streaming.load(path), 1, 0)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("99.png", b"broken")
    lazy = streaming.load(path, labels=False)
    with pytest.raises(ValueError, match="x.zip: 99.png: not an image file"):
        lazy.images[13]
