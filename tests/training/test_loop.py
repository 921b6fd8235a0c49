"""Whole runs: what they leave behind, and that stopping one at any moment changes nothing.

All of them run one program, that of `tiny_run`, which is compiled once.
"""

import dataclasses
import importlib.util
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image
from tiny_run import tiny

import edm_jax
from edm_jax.cli import plot_loss
from edm_jax.cli.main import main
from edm_jax.data import archive
from edm_jax.networks import ddpmpp
from edm_jax.runtime import files
from edm_jax.training import bins, loop, metrics, posthoc, warm_start
from edm_jax.training.config import DataConfig, LossConfig
from edm_jax.weights.checkpoint import Checkpoints
from edm_jax.weights.runs import restore_model

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("small_networks")


def final_state(workdir):
    """The newest step and its arrays, by orbax's own reader."""
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.latest()
    folder = workdir / "checkpoints" / str(step)
    with ocp.StandardCheckpointer() as reader:
        found = [reader.restore(folder / item) for item in ("state", "ema", "averages")]
    return step, jax.tree.map(np.asarray, found)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def whole(small_networks, tmp_path_factory):
    """An uninterrupted run of 12 steps, which also draws samples."""
    workdir = tmp_path_factory.mktemp("whole")
    assert loop.train(tiny(sample_kimg=0.096), str(workdir), quiet=True) is None
    return workdir


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The embedded digits as an archive, in the same order."""
    dataset = archive.load("digits")
    path = tmp_path_factory.mktemp("archive") / "digits.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i, image in enumerate(dataset.images):
            content = io.BytesIO()
            Image.fromarray(image[:, :, 0]).save(content, "png")
            file.writestr(f"{i:04d}.png", content.getvalue())
        labels = [[f"{i:04d}.png", int(label)] for i, label in enumerate(dataset.targets)]
        file.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


@pytest.mark.slow
def test_a_run_leaves_its_numbers_checkpoints_and_samples(whole):
    records = metrics.read(whole)
    assert [r["step"] for r in records] == [2, 4, 6, 8, 10, 12]
    assert all(np.isfinite(r["loss"]) and r["images_per_second"] > 0 for r in records)
    assert all(0 <= r["data_wait_share"] <= 1 for r in records)
    assert records[-1]["kimg"] == 0.192
    assert records[-1]["learning_rate"] == pytest.approx(1e-3)
    assert (whole / "events").is_dir()
    with Checkpoints(whole, read_only=True) as checkpoints:
        assert checkpoints.steps() == [8, 12]
    drawn = sorted(p.name for p in whole.glob("*.png"))
    assert drawn == ["samples-00000006.png", "samples-00000012.png"]
    assert restore_model(str(whole)).image_shape == (8, 8, 1)
    with pytest.raises(FileNotFoundError, match="step 3.*complete: 8, 12"):
        restore_model(str(whole), step=3)


@pytest.mark.slow
def test_class_names_stay_with_the_model_and_older_runs_go_on(whole, tmp_path):
    assert restore_model(str(whole)).config.class_names == tuple("0123456789")
    older = tmp_path / "older"
    shutil.copytree(whole, older)
    for path in older.glob("checkpoints/*/config/metadata"):
        record = json.loads(path.read_text())
        del record["model"]["class_names"]
        path.write_text(json.dumps(record))
        (path.parents[1] / "hashes.json").unlink()  # nor had they those
    assert loop.train(tiny(sample_kimg=0.096), str(older), quiet=True) is None
    assert restore_model(str(older)).config.class_names == ()


@pytest.mark.slow
def test_stopping_a_streamed_run_and_going_on_changes_no_bit(whole, digits, tmp_path, monkeypatch):
    # The signal comes at step 5: the run saves there, and says which signal it was.
    asked = loop.Interrupt.after

    def interrupted(self, step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return asked(self, step)

    kind = "stream" if importlib.util.find_spec("grain") else "memory"
    config = tiny(data=DataConfig(str(digits), loader=kind, workers=0))
    monkeypatch.setattr(loop.Interrupt, "after", interrupted)
    assert loop.train(config, str(tmp_path), quiet=True) == signal.SIGTERM
    assert final_state(tmp_path)[0] == 5
    monkeypatch.undo()
    # A torn line, and one from a step that the checkpoint does not hold.
    with open(tmp_path / "stats.jsonl", "a") as file:
        file.write('{"step": 7, "loss": 0.0}\n{"step": 8, "lo')
    assert loop.train(config, str(tmp_path), quiet=True) is None
    assert_same(final_state(tmp_path), final_state(whole))
    lines = (tmp_path / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 5, 6, 8, 10, 12]


@pytest.mark.slow
@pytest.mark.processes
def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path):
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/training']\n"
        "import pytest; from small_network import instead_of_unets; from tiny_run import tiny\n"
        "from edm_jax.training.loop import train\n"
        "instead_of_unets(pytest.MonkeyPatch())\n"
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
        ({"batch_size": 32}, "batch_size must be that of the run in this workdir, 16, got 32"),
        ({"seed": 1}, "seed must be .*, 0, got 1"),
        ({"ema_power": (0.05,), "ema_snapshot_kimg": 0.0}, r"ema_power must be .*got \[0.05\]"),
        ({"model": ddpmpp(resolution=0, channels=0, model_channels=16)}, "model.model_channels"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_run_s_folder_is_refused(whole, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.train(tiny(**changes), str(whole), quiet=True)


@pytest.mark.slow
def test_averages_are_kept_in_checkpoints_and_snapshots(whole):
    found = posthoc.snapshots(str(whole))
    assert [(each.step, each.std) for each in found] == [
        (s, w) for s in (4, 8, 12) for w in (0.05, 0.1)
    ]
    main_one, longer, *powers = (
        restore_model(str(whole), ema=name).params
        for name in (None, "halflife-0.1", "power-0.050", "power-0.100")
    )
    for name, kept in zip(("power-0.050", "power-0.100"), powers):
        assert_same(kept, edm_jax.load(whole / "averages" / f"{name}-00000012").params)
    # The longer half-life is nearer to where the run began, as is the wider power.
    end = jax.tree.leaves(final_state(whole)[1][0]["params"])
    for near, far in ((main_one, longer), powers):
        close, away = (
            sum(np.square(a - b).sum() for a, b in zip(end, jax.tree.leaves(tree)))
            for tree in (near, far)
        )
        assert 0 < close < away
    with pytest.raises(ValueError, match=r"one of .*\(halflife-0.1, power-0.050.*got 'power-0.2'"):
        restore_model(str(whole), ema="power-0.2")


def test_an_average_is_reconstructed_by_a_command(whole, tmp_path, capsys):
    out = tmp_path / "wide"
    assert main(["ema", str(whole), str(out), "--std", "0.1"]) == 0
    assert "from 6 snapshots" in capsys.readouterr().out
    wanted = edm_jax.load(whole / "averages/power-0.100-00000012").params
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6),
        edm_jax.load(out).params,
        wanted,
    )
    assert main(["ema", str(whole), str(tmp_path / "at"), "--std", "0.1", "--step", "8"]) == 0
    assert "from 4 snapshots" in capsys.readouterr().out
    assert main(["ema", str(whole), str(tmp_path / "none"), "--std", "0.5"]) == 2
    assert "std must lie" in capsys.readouterr().err
    assert main(["ema", str(tmp_path), str(tmp_path / "none"), "--std", "0.1"]) == 2
    assert "must hold snapshots of averages" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_starts_from_another_s_weights(whole, tmp_path, monkeypatch):
    given = restore_model(str(whole)).params
    started = []
    start_from = warm_start.start_from

    def spy(*arguments):
        started.append(start_from(*arguments))
        return started[-1]

    monkeypatch.setattr(warm_start, "start_from", spy)
    # The ramp of the average is asked for, and must not be taken.
    config = tiny(init=str(whole), duration_kimg=0.032, ema_rampup_ratio=0.05)
    loop.train(config, str(tmp_path), quiet=True)
    [(_, note)] = started
    assert str(whole) in note and "fresh" not in note and "unused" not in note
    # The second time the weights are not read again; a run from elsewhere is refused.
    loop.train(config, str(tmp_path), quiet=True)
    assert len(started) == 1
    with pytest.raises(ValueError, match="init must be that of the run in this workdir.*got None"):
        loop.train(dataclasses.replace(config, init=None), str(tmp_path), quiet=True)
    # The first step's learning rate is 0, so the average has moved once: by a half-life of 50.
    step, (state, average, _) = final_state(tmp_path)
    share = 1 - 0.5 ** (16 / 50)
    moved = 0.0
    for start, now, mean in zip(*map(jax.tree.leaves, (given, state["params"], average))):
        np.testing.assert_allclose(mean - start, share * (now - start), rtol=0, atol=1e-6)
        moved = max(moved, np.abs(now - start).max())
    assert step == 2 and moved > 2e-4


@pytest.mark.slow
def test_the_loss_by_noise_level_is_logged_and_drawn(whole, tmp_path):
    for record in metrics.read(whole):
        counts = np.array(record[bins.COUNTS])
        means = np.array([m or 0.0 for m in record[bins.SUMS]])
        assert counts.sum() == 32
        assert (counts * means).sum() / 32 == pytest.approx(record["loss"], rel=1e-4)
    kimg, loss = plot_loss.history(str(whole))
    np.testing.assert_allclose(kimg, 0.032 * np.arange(1, 7))
    assert loss.tolist() == [record["loss"] for record in metrics.read(whole)]
    assert main(["plot-loss", str(whole), "--out", str(tmp_path / "loss.png")]) == 0
    assert (tmp_path / "loss.png").stat().st_size > 5000


def put_step(monkeypatch, loss):
    """Makes the step one that learns nothing; its loss is that of (its number from 0, images)."""

    def step(state, batch, key):
        del key
        value = loss(state.step, batch["images"])
        binned = {bins.SUMS: value[None], bins.COUNTS: jnp.ones(1)}
        return state.replace(step=state.step + 1), {"loss": value, **binned}

    assemble = loop.assemble
    made = lambda *settings, **data: assemble(*settings, **data)._replace(step=step)
    monkeypatch.setattr(loop, "assemble", made)


@pytest.mark.slow
def test_two_steps_in_one_call_leave_the_records_of_single_ones(tmp_path, monkeypatch):
    """After the one that comes before them, where a run goes on from an odd step."""
    put_step(monkeypatch, lambda step, images: step * images.astype(jnp.float32).mean())
    settings = dict(ema_snapshot_kimg=0.0, log_kimg=0.064, checkpoint_kimg=1.0)
    loop.train(tiny(**settings), str(tmp_path / "one"), quiet=True)
    loop.train(tiny(**settings, duration_kimg=0.08), str(tmp_path / "two"), quiet=True)
    loop.train(tiny(**settings, steps_per_call=2), str(tmp_path / "two"), quiet=True)
    one, two = ({r["step"]: r["loss"] for r in metrics.read(tmp_path / n)} for n in ("one", "two"))
    assert list(one) == [4, 8, 12] and list(two) == [4, 5, 8, 12]
    assert one[12] == two[12] and len(set(one.values())) == 3
    assert one[4] == two[4]
    assert final_state(tmp_path / "two")[0] == 12


@pytest.mark.slow
def test_a_nonfinite_loss_stops_the_run_and_names_the_step(tmp_path, monkeypatch):
    put_step(monkeypatch, lambda step, images: jnp.where(step == 4, jnp.nan, 1.0))  # of the fifth
    with pytest.raises(loop.NonFiniteLossError, match="the loss of step 5 must be finite, got nan"):
        loop.train(tiny(ema_snapshot_kimg=0.0), str(tmp_path), quiet=True)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [4]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 12}, "batch_size must be a multiple of the 8 devices, got 12"),
        ({"microbatch": 3}, "microbatch must divide .*got 3"),
        ({"steps_per_call": 3}, "steps_per_call must divide the 2 steps of log_kimg, got 3"),
        ({"steps_per_call": 0}, "steps_per_call must be positive and finite, got 0"),
        ({"duration_kimg": 0.0}, "duration_kimg must be positive and finite, got 0.0"),
        ({"augment": 2.0}, r"augment must be in \[0, 1\], got 2.0"),
        ({"engine": "tpu"}, "engine must be one of auto, pmap, jit, got 'tpu'"),
        ({"data": DataConfig(loader="disk")}, "data.loader must be one of auto, memory.*disk"),
        ({"model": ddpmpp(resolution=32)}, "model.resolution must be .* 8 .*got 32"),
        ({"loss": LossConfig("edn")}, "edn"),
        (
            {"loss": LossConfig(importance=True)},
            "importance must be left out for the objective 'edm'",
        ),
        ({"loss": LossConfig("iddpm", variance_weight=1e-3)}, "model.learned_variance"),
        ({"loss": LossConfig(weight="snr")}, "weight must be one of"),
        ({"loss": LossConfig(weight_arguments={"limit": 1.0})}, "no weight is named"),
        ({"ema_power": ()}, "ema_power must name"),
        ({"ema_power": (0.4,)}, "std must lie .*got 0.4"),
        ({"loss_scale": 0.0}, "loss_scale must be positive and finite, got 0.0"),
        ({"init": "none.pkl"}, "none.pkl"),
        ({"seed": 2**32}, r"seed must be in \[0, 2\*\*32\), got 4294967296"),
        ({"adam_b1": 1.5}, r"adam_b1 must be in \[0, 1\), got 1.5"),
        ({"adam_b2": 1.0}, r"adam_b2 must be in \[0, 1\), got 1.0"),
        ({"ema_rampup_ratio": -1.0}, "ema_rampup_ratio must be positive and finite, got -1.0"),
        ({"duration_kimg": float("inf")}, "duration_kimg must be positive and finite, got inf"),
        ({"rampup_kimg": float("nan")}, "rampup_kimg must be finite and not negative, got nan"),
        ({"ema_more_kimg": (float("inf"),)}, "ema_more_kimg must hold .*got inf"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.train(tiny(**changes), str(tmp_path), quiet=True)


def test_two_runs_in_one_folder_are_refused(whole):
    with files.locked(whole / files.LOCK), pytest.raises(BlockingIOError, match="another process"):
        loop.train(tiny(), str(whole), quiet=True)
