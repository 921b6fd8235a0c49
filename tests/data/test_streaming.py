"""Streaming: the same batches as from memory, from any step, whoever decodes them."""

import pickle
import zipfile

import numpy as np
import pytest

from edm_jax.data import archive, loader, streaming


def test_members_index_like_an_array(small_archive):
    images = archive.load(small_archive).images
    lazy = pickle.loads(pickle.dumps(streaming.load(small_archive).images))
    assert lazy.shape == images.shape and len(lazy) == 13
    np.testing.assert_array_equal(lazy[4], images[4])
    np.testing.assert_array_equal(lazy[3:9], images[3:9])
    np.testing.assert_array_equal(lazy[np.array([7, 7, 0])], images[[7, 7, 0]])
    assert lazy[:0].shape == (0, 6, 6, 3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_the_batches_are_those_from_memory(small_archive, workers):
    memory, lazy = archive.load(small_archive), streaming.load(small_archive)
    part = dict(process_index=1, process_count=2, xflip=True)
    with streaming.stream(lazy, 5, 8, start_step=3, workers=workers, **part) as steps:
        for step in range(3, 8):
            rows, expected = next(steps), loader.batch(memory, 5, step, 8, **part)
            for key in expected:
                np.testing.assert_array_equal(rows[key], expected[key])
        assert steps.waited > 0


def test_grain_restores_its_position(small_archive):
    steps = iter(streaming.batches(streaming.load(small_archive), 1, 4, workers=0))
    next(steps), next(steps)
    state = steps.get_state()
    expected = next(steps)
    other = iter(streaming.batches(streaming.load(small_archive), 1, 4, workers=0))
    other.set_state(state)
    np.testing.assert_array_equal(next(other)["images"], expected["images"])


def test_the_end_and_the_faults(small_archive):
    with streaming.stream(streaming.load(small_archive), 1, 4, stop_step=3, workers=0) as steps:
        assert len(list(steps)) == 3
    with pytest.raises(ValueError, match="batch_size must be a positive multiple"):
        streaming.stream(streaming.load(small_archive), 1, 0)
    with pytest.raises(ValueError, match="ahead must be at least 1, got 0"):
        streaming.stream(streaming.load(small_archive), 1, 4, workers=0, ahead=0)
    with zipfile.ZipFile(small_archive, "a") as file:
        file.writestr("99.png", b"broken")
    lazy = streaming.load(small_archive, labels=False)
    with pytest.raises(ValueError, match="x.zip: 99.png: not an image file"):
        lazy.images[13]
