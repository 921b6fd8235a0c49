"""A run whose folder is a URL: nothing takes it for a path of this machine's disks."""

import sys

import jax
import numpy as np
import pytest
from etils import epath
from etils.epath import backend, gpath
from small_network import model_of
from tiny_run import tiny

from edm_jax import load
from edm_jax.cli.main import main
from edm_jax.networks import ddpmpp
from edm_jax.runtime import files, pictures
from edm_jax.training import metrics, posthoc
from edm_jax.training.loop import train


@pytest.fixture
def url(tmp_path, monkeypatch):
    """The URL of a fake file system, whose files are under tmp_path/bucket."""

    def there(part):
        return str(part).replace("fake://", f"{tmp_path}/bucket/")

    # Python 3.11 makes a path in __new__; later ones call __init__ with what the caller wrote.
    @epath.register_path_cls("fake://")
    class Fake(type(epath.Path())):
        def __new__(cls, *parts):
            return super().__new__(cls, *map(there, parts))

        if sys.version_info >= (3, 12):

            def __init__(self, *parts):
                super().__init__(*map(there, parts))

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return "fake://runs/a"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The folder that holds what is written under s3://bucket; elsewhere nothing may appear."""

    class Backend(type(backend.os_backend)):
        """The operating system's, with the URL's scheme taken for a folder."""

        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            local = lambda a: a.replace("s3://", f"{tmp_path}/s3/") if isinstance(a, str) else a
            if name.startswith("_") or not callable(found):
                return found
            return lambda *parts, **options: found(*map(local, parts), **options)

    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "s3", Backend())
    (tmp_path / "here").mkdir()
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "s3" / "bucket"
    assert not any((tmp_path / "here").iterdir())


def test_every_file_beside_the_checkpoints_goes_to_the_bucket(bucket):
    folder = epath.Path("s3://bucket/run")
    folder.mkdir(parents=True)
    with metrics.Metrics(folder, 0) as log:
        for step in (1, 2):
            log.write({"step": step, "loss": 0.5})
    with metrics.Metrics(folder, 1):  # drops what a resumed run makes again
        pass
    assert [r["step"] for r in metrics.read("s3://bucket/run")] == [1]
    pictures.write(pictures.to_image(np.zeros((4, 4, 1), np.uint8)), folder / "samples.png")
    files.write(folder / "config.json", "{}")
    config = ddpmpp(
        resolution=8, channels=1, model_channels=8, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(), dropout=0.0,
    )  # fmt: skip
    model = model_of(config)
    posthoc.save(model, folder, "power-0.100", 4)
    assert {str(p.relative_to(bucket)) for p in bucket.rglob("*") if p.is_file()} == {
        "run/stats.jsonl",
        "run/samples.png",
        "run/config.json",
        "run/averages/power-0.100-00000004/config.json",
        "run/averages/power-0.100-00000004/weights.safetensors",
    }
    found, count = posthoc.reconstruct("s3://bucket/run", 0.1)
    assert count == 1
    jax.tree.map(np.testing.assert_array_equal, found.params, jax.device_get(model.params))


@pytest.mark.slow
def test_a_run_in_a_bucket(small_networks, url, tmp_path):
    config = tiny(
        duration_kimg=0.064, log_kimg=0.016, sample_kimg=0.032, checkpoint_kimg=0.032,
        ema_snapshot_kimg=0.032,
    )  # fmt: skip
    assert train(config, url, quiet=True) is None
    assert train(config, url, quiet=True) is None  # it is complete, and found to be
    real = tmp_path / "bucket/runs/a"
    assert [r["step"] for r in metrics.read(url)] == [1, 2, 3, 4]
    assert (real / "config.json").is_file() and (real / "checkpoints/4/hashes.json").is_file()
    assert sorted(p.name for p in real.glob("*.png")) == [f"samples-{s:08d}.png" for s in (2, 4)]
    model, count = posthoc.reconstruct(url, 0.1)
    assert count == 4
    # What is damaged there is moved aside there, and the rest of the attempt goes with it.
    (real / "checkpoints/4/config/metadata").write_text("{")
    (real / "averages/power-0.100-00000009").mkdir()
    assert train(config, url, quiet=True) is None
    assert (real / "set_aside/4").is_dir() and (real / "checkpoints/4/hashes.json").is_file()
    assert not (real / "averages/power-0.100-00000009").exists()
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
