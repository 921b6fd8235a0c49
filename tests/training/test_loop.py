"""Whole runs: what they leave behind, and that stopping one at any moment changes nothing."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from edm_jax.model import ddpmpp
from edm_jax.training import checkpoint, loop, metrics
from edm_jax.training.config import Config, LossConfig

ROOT = pathlib.Path(__file__).parents[2]


def tiny(**changes) -> Config:
    model = ddpmpp(
        resolution=0, channels=0, model_channels=8, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(), dropout=0.1,
    )  # fmt: skip
    settings = dict(
        model=model, batch_size=16, duration_kimg=0.192, learning_rate=1e-3, rampup_kimg=0.05,
        ema_halflife_kimg=0.05, augment=0.0, log_kimg=0.032, sample_kimg=0.0,
        checkpoint_kimg=0.064, sample_steps=3,
    )  # fmt: skip
    return Config(**(settings | changes))


def final_state(workdir):
    """The newest step and its arrays, by orbax's own reader."""
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.latest()
    with ocp.StandardCheckpointer() as reader:
        found = [reader.restore(workdir / "checkpoints" / str(step) / i) for i in ("state", "ema")]
    return step, jax.tree.map(np.asarray, found)


def assert_same(a, b):
    assert a[0] == b[0]
    jax.tree.map(np.testing.assert_array_equal, a[1], b[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 12 steps."""
    workdir = tmp_path_factory.mktemp("whole")
    assert loop.train(tiny(), str(workdir), quiet=True) is None
    return workdir


def test_a_run_leaves_its_numbers_and_checkpoints(whole):
    records = metrics.read(whole)
    assert [r["step"] for r in records] == [2, 4, 6, 8, 10, 12]
    assert all(np.isfinite(r["loss"]) and r["images_per_second"] > 0 for r in records)
    assert records[-1]["kimg"] == 0.192
    assert records[-1]["learning_rate"] == pytest.approx(1e-3)
    assert (whole / "events").is_dir()
    with checkpoint.Checkpoints(whole, read_only=True) as checkpoints:
        assert checkpoints.steps() == [8, 12]


def test_stopping_and_going_on_changes_no_bit(whole, tmp_path, monkeypatch):
    # The signal comes at step 5: the run saves there, and says which signal it was.
    asked = loop.Interrupt.after

    def interrupted(self, step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return asked(self, step)

    monkeypatch.setattr(loop.Interrupt, "after", interrupted)
    assert loop.train(tiny(), str(tmp_path), quiet=True) == signal.SIGTERM
    assert final_state(tmp_path)[0] == 5
    monkeypatch.undo()
    # A torn line, and one from a step that the checkpoint does not hold.
    with open(tmp_path / "stats.jsonl", "a") as file:
        file.write('{"step": 7, "loss": 0.0}\n{"step": 8, "lo')
    assert loop.train(tiny(), str(tmp_path), quiet=True) is None
    assert_same(final_state(tmp_path), final_state(whole))
    lines = (tmp_path / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 5, 6, 8, 10, 12]


def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'tests/training')\n"
        "from test_loop import tiny; from edm_jax.training.loop import train\n"
        f"train(tiny(), {str(tmp_path)!r}, quiet=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    folder = tmp_path / "checkpoints"
    # As soon as the first checkpoint begins to appear on disk, whatever state it is in.
    deadline = time.monotonic() + 120
    while child.poll() is None and not (folder.is_dir() and any(folder.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.kill()
    child.wait()
    assert loop.train(tiny(), str(tmp_path), quiet=True) is None
    assert_same(final_state(tmp_path), final_state(whole))


def test_a_complete_run_is_left_alone(whole):
    before = sorted(p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file())
    assert loop.train(tiny(), str(whole), quiet=True) is None
    assert sorted(p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()) == before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 32}, "batch_size is 32, but the run in this workdir has 16"),
        ({"seed": 1}, "seed is 1"),
        ({"model": ddpmpp(resolution=0, channels=0, model_channels=16)}, "model.model_channels"),
    ],
)
def test_another_run_s_folder_is_refused(whole, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.train(tiny(**changes), str(whole), quiet=True)


def test_a_nonfinite_loss_stops_the_run_and_names_the_step(tmp_path):
    # The weight 1 / sigma^2 overflows at the noise levels of this distribution.
    config = tiny(loss=LossConfig("edm", {"p_mean": -80.0, "p_std": 1.0}))
    with pytest.raises(loop.NonFiniteLossError, match="the loss of step 1 is"):
        loop.train(config, str(tmp_path), quiet=True)
    assert not any((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 12}, "batch_size is 12; it must be a multiple of the 8 devices"),
        ({"microbatch": 3}, "microbatch is 3"),
        ({"duration_kimg": 0.0}, "duration_kimg is 0.0; it must be positive"),
        ({"augment": 2.0}, "augment is 2.0"),
        ({"engine": "tpu"}, "engine is 'tpu'; allowed are auto, pmap, jit"),
        ({"loss": LossConfig("edn")}, "edn"),
        ({"model": ddpmpp(resolution=32)}, "model.resolution is 32"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.train(tiny(**changes), str(tmp_path), quiet=True)


def test_samples_are_drawn_at_intervals_and_at_the_end(tmp_path):
    loop.train(tiny(duration_kimg=0.064, sample_kimg=0.032), str(tmp_path), quiet=True)
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [
        "samples-00000002.png",
        "samples-00000004.png",
    ]
    model = checkpoint.restore_model(str(tmp_path))
    assert model.image_shape == (8, 8, 1)
    with pytest.raises(FileNotFoundError, match="step 3.*complete: 4"):
        checkpoint.restore_model(str(tmp_path), step=3)
