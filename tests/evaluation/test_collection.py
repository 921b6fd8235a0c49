"""Features in files: what was killed goes on, to the same bits; what is damaged is named."""

import numpy as np
import pytest
from etils import epath

from edm_jax.evaluation import collection

ALL = np.random.default_rng(0).standard_normal((23, 2), np.float32)


def computing(asked, size=3, dies_after=None):
    def compute(rows):
        for start in range(0, len(rows), size):
            if dies_after is not None and start >= dies_after:
                raise KeyboardInterrupt
            asked.extend(rows[start : start + size])
            yield ALL[rows[start : start + size]]

    return compute


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path)


def test_a_killed_measurement_goes_on(folder):
    with pytest.raises(KeyboardInterrupt):
        list(collection.collect(folder, 23, 6, computing([], dies_after=15)))
    asked = []
    counts = list(collection.collect(folder, 23, 6, computing(asked)))
    assert asked == list(range(12, 23)) and counts[0] == 12 and sum(counts) == 23
    np.testing.assert_array_equal(collection.gather(folder, 23, 6), ALL)
    assert list(collection.collect(folder, 23, 6, computing(asked))) == [23]


def test_processes_share_the_files(folder):
    for index in (0, 1, 2):
        asked = []
        list(collection.collect(folder, 23, 6, computing(asked), part=(index, 3)))
        assert asked[0] == 6 * index
    np.testing.assert_array_equal(collection.gather(folder, 23, 6), ALL)


def test_damaged_files_are_named(folder):
    list(collection.collect(folder, 23, 6, computing([])))
    first, second = sorted(folder.iterdir())[:2]
    np.save(first, ALL[:5])
    with pytest.raises(ValueError, match=f"{first.name}: must hold 6 rows, got 5"):
        collection.gather(folder, 23, 6)
    first.write_bytes(second.read_bytes()[:150])
    with pytest.raises(ValueError, match=f"{first.name}: is damaged"):
        collection.gather(folder, 23, 6)
