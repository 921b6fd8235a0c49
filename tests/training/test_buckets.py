"""A run whose folder is a URL: nothing takes it for a path of this machine's disks."""

import jax
import numpy as np
import pytest
from etils import epath
from tiny_run import tiny

from edm_jax import load
from edm_jax.cli.main import main
from edm_jax.training import metrics, posthoc
from edm_jax.training.loop import train


@pytest.fixture
def url(tmp_path, monkeypatch):
    """The URL of a fake file system, whose files are under tmp_path/bucket."""

    @epath.register_path_cls("fake://")
    class Fake:
        def __new__(cls, path):
            return epath.Path(str(path).replace("fake://", f"{tmp_path}/bucket/"))

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return "fake://runs/a"


def test_a_run_in_a_bucket(small_networks, url, tmp_path):
    config = tiny(
        duration_kimg=0.064, log_kimg=0.016, sample_kimg=0.032, checkpoint_kimg=0.032,
        ema_snapshot_kimg=0.032,
    )  # fmt: skip
    assert train(config, url, quiet=True) is None
    assert train(config, url, quiet=True) is None  # it is complete, and found to be
    real = tmp_path / "bucket/runs/a"
    assert [r["step"] for r in metrics.read(url)] == [1, 2, 3, 4]
    assert sorted(p.name for p in real.glob("*.png")) == [f"samples-{s:08d}.png" for s in (2, 4)]
    model, count = posthoc.reconstruct(url, 0.1)
    assert count == 4
    leaf = lambda m: np.asarray(jax.tree.leaves(m.params)[0])
    np.testing.assert_allclose(leaf(model), leaf(load(f"{url}/averages/power-0.100-00000004")))

    options = ["--checkpoint", url, "--seeds", "0-3", "--steps", "2", "--batch", "1"]
    assert main(["sample", *options, "--out", "fake://drawn"]) == 0
    assert main(["sample", *options, "--out", "drawn"]) == 0
    for name in ("000003.png", "grid.png"):
        there = tmp_path / "bucket/drawn" / name
        assert there.read_bytes() == (tmp_path / "here/drawn" / name).read_bytes()
    # And no folder of this machine is called after a URL.
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["drawn"]
