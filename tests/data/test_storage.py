"""Memory, mapped file and stream: one choice, and the same global batch from all of them."""

import sys

import numpy as np
import pytest

from edm_jax.data import archive, loader, storage


@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("kind", storage.KINDS)
def test_the_global_batch_is_the_same_from_any_storage_and_process_count(
    small_archive, tmp_path, kind, process_count
):
    expected = archive.load(small_archive)
    rows = [[] for _ in range(2, 7)]
    for index in range(process_count):
        # Each process opens the archive for itself and sees its own rows alone.
        source = storage.load(small_archive, kind=kind, cache_dir=tmp_path, workers=0)
        settings = dict(process_index=index, process_count=process_count, xflip=True)
        with source.stream(5, 8, start_step=2, stop_step=7, **settings) as steps:
            for found, batch in zip(rows, steps, strict=True):
                assert len(batch["images"]) == 8 // process_count
                found.append(batch)
    assert isinstance(source.dataset.images, np.memmap) == (kind == "mapped")
    assert any(tmp_path.iterdir()) == (kind == "mapped")
    for step, parts in enumerate(rows, start=2):
        for key, whole in loader.batch(expected, 5, step, 8, xflip=True).items():
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), whole)


def test_digits_are_in_memory_for_every_choice(tmp_path):
    for kind in storage.KINDS:
        found = storage.load("digits", kind=kind, cache_dir=tmp_path, workers=0)
        assert type(found.dataset.images) is np.ndarray
        with found.stream(0, 4, stop_step=1) as steps:
            [rows] = steps
        assert rows["labels"].argmax(axis=1).tolist() == [2, 4, 5, 4]
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_is_named(small_archive, monkeypatch):
    with pytest.raises(ValueError, match="data.loader must be one of auto, .*got 'disk'"):
        storage.load(small_archive, kind="disk")
    with pytest.raises(ValueError, match="data.workers must be at least 0, got -1"):
        storage.load(small_archive, workers=-1)
    monkeypatch.setitem(sys.modules, "grain", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"pip install 'edm_jax\[grain\]'"):
        storage.load(small_archive, kind="stream")
    assert len(storage.load(small_archive, kind="memory").dataset.images) == 13
