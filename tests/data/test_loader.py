"""Batches: each image once an epoch, the same rows for any number of processes, resumable."""

import threading
import time

import numpy as np
import pytest

from edm_jax.data import archive, loader


def counted(size, label_dim=0):
    """A data set whose image i holds the number i in its left pixel."""
    images = np.zeros((size, 2, 2, 1), np.uint8)
    images[:, :, 0, 0] = np.arange(size)[:, None]
    targets = np.arange(size, dtype=np.int32) % label_dim if label_dim else None
    return archive.Dataset(images, targets, "counted")


def numbers(rows):
    return rows["images"].max(axis=(1, 2, 3))


@pytest.mark.parametrize("size, batch_size", [(12, 4), (10, 4), (7, 5), (3, 8), (5, 1)])
def test_every_image_once_an_epoch(size, batch_size):
    dataset = counted(size)
    seen = [numbers(loader.batch(dataset, 3, step, batch_size)) for step in range(3 * size)]
    epochs = np.concatenate(seen).reshape(-1, size)
    assert (np.sort(epochs, axis=1) == np.arange(size)).all()
    if size > 6:
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)  # a new order each time


@pytest.mark.parametrize("process_count", [2, 4, 8])
def test_processes_hold_contiguous_rows_of_the_one_batch(process_count):
    dataset = counted(27, label_dim=4)
    for step in range(6):
        whole = loader.batch(dataset, 1, step, 16)
        parts = [
            loader.batch(dataset, 1, step, 16, process_index=p, process_count=process_count)
            for p in range(process_count)
        ]
        for key, value in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), value)


def test_labels_belong_to_their_images():
    dataset = counted(20, label_dim=6)
    rows = loader.batch(dataset, 0, 5, 16)
    assert rows["labels"].dtype == np.float32
    np.testing.assert_array_equal(rows["labels"].argmax(axis=1), numbers(rows) % 6)
    np.testing.assert_array_equal(rows["labels"].sum(axis=1), 1)
    assert loader.batch(counted(20), 0, 5, 16)["labels"].shape == (16, 0)


def test_seeds_differ_and_the_order_stays_for_ever():
    assert loader.permutation(10, 0, 0).tolist() != loader.permutation(10, 1, 0).tolist()
    # A checkpoint of today resumes with these numbers in ten years.
    assert loader.permutation(10, 2**63 + 5, 7).tolist() == [7, 4, 3, 8, 5, 9, 1, 6, 2, 0]


def test_xflip_visits_each_image_and_its_mirror_once():
    size = 9
    dataset = counted(size)
    rows = [loader.batch(dataset, 4, step, 6, xflip=True) for step in range(2 * size // 6)]
    images = np.concatenate([part["images"] for part in rows])
    for i in range(1, size):
        found = images[images.max(axis=(1, 2, 3)) == i]
        assert sorted(image[0, 0, 0] for image in found) == [0, i]  # mirrored, and not


def test_stream_from_a_step_repeats_the_uninterrupted_one():
    dataset = counted(11, label_dim=3)
    with loader.stream(dataset, 9, 4, stop_step=8) as batches:
        whole = list(batches)
    with loader.stream(dataset, 9, 4, start_step=5, stop_step=8) as batches:
        rest = list(batches)
    assert len(whole) == 8 and len(rest) == 3
    for one, other in zip(whole[5:], rest):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_stream_counts_the_time_spent_waiting():
    def slow(rows):
        time.sleep(0.05)
        return rows

    dataset = counted(8)
    with loader.stream(dataset, 0, 4, stop_step=4, place=slow) as batches:
        assert len(list(batches)) == 4
        assert batches.waited > 0.15
    with loader.stream(dataset, 0, 4, stop_step=2, place=slow) as batches:
        time.sleep(0.3)  # both are ready
        assert len(list(batches)) == 2
        assert batches.waited < 0.05


def test_stream_ends_its_thread_and_passes_errors_on():
    def fail(rows):
        raise OSError("the disk is gone")

    before = threading.active_count()
    batches = loader.stream(counted(8), 0, 4, place=fail)
    with pytest.raises(OSError, match="disk is gone"):
        next(batches)
    endless = loader.stream(counted(8), 0, 4)
    next(endless)
    endless.close()
    with pytest.raises(StopIteration):
        next(endless)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(seed=-1), "seed must be in"),
        (dict(step=-1), "step must not be negative"),
        (dict(batch_size=0), "batch_size must be a positive multiple"),
        (dict(process_count=3), "multiple of the 3 processes, got 4"),
        (dict(process_index=2, process_count=2), r"process_index must be in \[0, 2\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        loader.batch(counted(8), **{"seed": 0, "step": 0, "batch_size": 4, **arguments})
