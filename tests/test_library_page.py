"""What docs/library.md shows runs, and every way of cutting an ensemble gives the same numbers."""

import pathlib
import re

import jax
import numpy as np
import pytest

import edm_jax
from edm_jax import generation
from edm_jax.model import Model
from edm_jax.training import loop
from edm_jax.training.config import check

SMALL = edm_jax.ddpmpp(
    resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,), num_blocks=1,
    attn_resolutions=(), label_dropout=0.1,
)  # fmt: skip
PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "library.md").read_text()


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FIRST = next(i for i, block in enumerate(BLOCKS) if block.startswith("kernel"))


@pytest.fixture(scope="module")
def models(small_networks):
    """The names of the part that is about models of ours."""
    names: dict = {"trained": []}
    model = Model.init(edm_jax.sample_keys([0])[0], SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edm_jax, "load", lambda path: model)
        patch.setattr(loop, "train", lambda *run: names["trained"].append(run))
        for code in BLOCKS[:FIRST]:
            exec(code.replace("range(100)", "range(2)"), names)
    return names


@pytest.fixture(scope="module")
def page():
    """The names of the rest, which needs the imports of what stands before."""
    names: dict = {}
    exec("\n".join(re.findall(r"^(?:from|import) .*", PAGE, re.MULTILINE)), names)
    for code in BLOCKS[FIRST:]:
        exec(code, names)
    return names


@pytest.mark.slow
def test_a_model_is_drawn_from_both_ways(models):
    part, images = models["part"], np.asarray(models["images"])
    assert part.images.shape == (2, 8, 8, 1) and part.finite.all()
    ((config, folder),) = models["trained"]
    check(config, devices=8)
    assert folder == "runs/mine" and config.model.label_dropout == 0.1
    heun = edm_jax.samplers.heun(edm_jax.timesteps.edm(18))
    (again,) = edm_jax.generate(models["guided"], heun, range(4), classes=3, devices=1)
    apart = again.images.astype(int) - generation.to_uint8(images).astype(int)
    assert np.abs(apart).max() <= 1


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
