"""A run of EDM2 on latents: stopped and gone on with it is the same, bit for bit."""

import io
import shutil
import zipfile

import jax
import numpy as np
import pytest

import edm_jax
from edm_jax.networks import edm2
from edm_jax.training import loop, metrics, posthoc
from edm_jax.training.config import Config, DataConfig, LossConfig, check
from edm_jax.weights.runs import restore_model

NETWORK = edm2(
    resolution=0, channels=0, model_channels=8, channel_mult=(1,), num_blocks=1,
    attn_resolutions=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Sixteen latents of 4×4, without labels."""
    path, rng = tmp_path_factory.mktemp("latents") / "latents.zip", np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as file:
        for i in range(16):
            buffer = io.BytesIO()
            np.save(buffer, rng.uniform(0, 2, (8, 4, 4)).astype(np.float32))
            file.writestr(f"{i:02d}.npy", buffer.getvalue())
    return str(path)


def config_of(archive, **changes):
    settings = dict(
        model=NETWORK, data=DataConfig(archive, conditional=False),
        loss=LossConfig("edm", uncertainty=True),
        batch_size=16, duration_kimg=0.064, learning_rate=0.01, rampup_kimg=0.0, decay_steps=2.0,
        adam_b2=0.99, infinite_gradient=0.0, ema_std=0.1, ema_power=(0.05,),
        ema_snapshot_kimg=0.032, augment=0.0, log_kimg=0.016, sample_kimg=0.0,
        checkpoint_kimg=0.032,
    )  # fmt: skip
    return Config(**(settings | changes))


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
def test_a_run_of_edm2_goes_on_as_if_it_had_not_stopped(archive, tmp_path):
    config = config_of(archive)
    loop.train(config, str(tmp_path / "whole"), quiet=True)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "4")
    loop.train(config, str(tmp_path / "again"), quiet=True)
    for name in (None, "power-0.050"):
        whole, again = (
            restore_model(tmp_path / folder, ema=name).params for folder in ("whole", "again")
        )
        jax.tree.map(np.testing.assert_array_equal, whole, again)
    model = edm_jax.load(tmp_path / "whole")
    assert model.config.latents and model.image_shape == (4, 4, 4)
    rates = [record["learning_rate"] for record in metrics.read(tmp_path / "whole")]
    np.testing.assert_allclose(rates, 0.01 / np.sqrt([1, 1, 1, 1.5]), rtol=1e-6)
    # The main average has its snapshots too, and is that of its width.
    found = posthoc.snapshots(str(tmp_path / "whole"))
    assert [(each.step, each.std) for each in found] == [
        (s, w) for s in (2, 4) for w in (0.05, 0.1)
    ]
    made, count = posthoc.reconstruct(str(tmp_path / "whole"), 0.1)
    assert count == 4
    for a, b in zip(jax.tree.leaves(made.params), jax.tree.leaves(model.params)):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(sample_kimg=1.0), "sample_kimg must be 0 for latents, got 1.0"),
        (dict(augment=0.1), "augment must be 0 for latents, got 0.1"),
        (dict(data=dict(xflip=True)), "data.xflip must be False for latents, got True"),
    ],
)
def test_what_latents_rule_out_is_named(archive, tmp_path, changes, message):
    data = DataConfig(archive, conditional=False, **changes.pop("data", {}))
    model = NETWORK if "augment" not in changes else edm_jax.ddpmpp(resolution=0, channels=0)
    with pytest.raises(ValueError, match=message):
        loop.train(config_of(archive, data=data, model=model, **changes), str(tmp_path))


def test_averages_that_are_one_are_named():
    with pytest.raises(ValueError, match=r"ema_power must name other widths than ema_std, 0.1"):
        check(config_of("digits", ema_power=(0.05, 0.1)), devices=1)
    with pytest.raises(ValueError, match="std must lie between 0 and .* got 0.3"):
        check(config_of("digits", ema_std=0.3), devices=1)
