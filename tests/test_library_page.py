"""What docs/library.md shows runs, and every way of cutting an ensemble gives the same numbers."""

import pathlib
import re

import jax
import numpy as np
import pytest

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "library.md").read_text()


@pytest.fixture(scope="module")
def page():
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    return names


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_an_ensemble_in_parts_is_the_same(page):
    assert np.std(page["drawn"]) > 0.1
    close(page["in_parts"], page["drawn"])


def test_members_on_devices_of_their_own_are_the_same(page):
    assert len(page["on_devices"].sharding.device_set) == 8
    assert page["on_devices"].addressable_shards[0].data.shape == (1, 16, 8, 2)
    close(page["on_devices"], page["drawn"])


def test_one_member_over_eight_devices_is_the_same(page):
    assert page["in_strips"].addressable_shards[0].data.shape == (1, 2, 8, 2)
    close(page["in_strips"], page["drawn"][:1])


@pytest.mark.slow
def test_the_gradient_is_that_without_remat(page):
    sample, denoise, tableau = page["sample"], page["denoise"], page["tableau"]
    total = lambda noise: (sample(denoise, tableau, noise, page["path"]) ** 2).sum()
    close(page["slope"], jax.grad(total)(page["normal"](page["start"], (16, 8, 2))))
