"""What goes wrong with a run's files, and with its numbers: found, named, and gone on from."""

import gc
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tiny_run import tiny

import edm_jax
from edm_jax.cli.main import main
from edm_jax.training import loop, metrics, posthoc
from edm_jax.weights.checkpoint import Checkpoints
from edm_jax.weights.runs import restore_model

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def finished(small_networks, tmp_path_factory):
    """A whole run with checkpoints of steps 4, 8 and 12."""
    workdir = tmp_path_factory.mktemp("finished")
    loop.train(tiny(keep_checkpoints=3, sample_kimg=0.064), str(workdir), quiet=True)
    return workdir


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be spoiled."""
    return shutil.copytree(finished, tmp_path / "run")


def steps(workdir):
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.steps()


def flip(folder):
    """Changes one bit of the largest file of a folder."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


SPOIL = {
    "a flipped bit of the state": lambda step: flip(step / "state"),
    "a flipped bit of the average": lambda step: flip(step / "ema"),
    "a missing file": lambda step: (step / "ema/_METADATA").unlink(),
    "a short file": lambda step: (step / "config/metadata").write_text("{"),
    "an empty folder": lambda step: (shutil.rmtree(step), step.mkdir()),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a flipped bit of the state", "an empty folder"])
def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_taken(run, finished, kind, capsys):
    SPOIL[kind](run / "checkpoints/12")
    assert loop.train(tiny(keep_checkpoints=3), str(run), quiet=True) is None
    said = capsys.readouterr().err
    assert re.fullmatch(r"warning: .*checkpoints/12 is damaged .*set_aside/12\n", said)
    assert steps(run) == [4, 8, 12] and (run / "set_aside/12").is_dir()
    jax.tree.map(
        np.testing.assert_array_equal, edm_jax.load(run).params, edm_jax.load(finished).params
    )


@pytest.mark.parametrize("kind", list(SPOIL)[1:])
def test_loading_a_damaged_checkpoint_is_one_line_that_names_it(run, kind):
    SPOIL[kind](run / "checkpoints/12")
    with pytest.raises(ValueError) as found:
        edm_jax.load(run)
    line = str(found.value)
    assert "checkpoints/12 is damaged: " in line and "\n" not in line and len(line) < 500
    assert edm_jax.load(run / "checkpoints/8").params
    assert f"beside it there is {run}/checkpoints/4, {run}/checkpoints/8" in line


@pytest.mark.parametrize("content", [b"{", b"[]", b"[" * 100_000, b'{"config": 1}', b"\xff"])
@pytest.mark.parametrize("part", ["config/metadata", "ema/_METADATA", "_CHECKPOINT_METADATA"])
def test_metadata_without_hashes_are_read_or_refused_in_one_line(run, part, content):
    step = run / "checkpoints/12"
    (step / "hashes.json").unlink()
    assert edm_jax.load(run).params  # as an earlier version wrote it
    (step / part).write_bytes(content)
    try:
        edm_jax.load(run)
    except ValueError as error:
        assert str(error).startswith(str(run)) and "\n" not in str(error)
        assert len(str(error)) < 600
    else:
        assert part == "_CHECKPOINT_METADATA"  # of which nothing is needed


@pytest.mark.parametrize(
    "change, message",
    [
        ({"architecture": "x" * 5000}, "architecture must be one of song, dhariwal, .*got 'xxx"),
        ({"x" * 5000: 1}, "the settings of 'song' must be among .*, got 'xxx"),
        ({"class_names": ["a"], "label_dim": "x" * 5000}, "as many as label_dim, 'xxx"),
        ({"dropout": [[[[["x" * 5000]]]]]}, "dropout must be of type float, got "),
        ({"resolution": "8"}, "resolution must be of type int, got '8'"),
        ({"channel_mult": ["1"]}, "TypeError: "),
        ({"num_blocks": 10**6}, "weights do not fit the network"),
        ({"preconditioner": "x" * 5000}, "preconditioner must be one of edm, .*, got 'xxx"),
        ({"preconditioner_arguments": {"x" * 5000: 1}}, "preconditioner_arguments of 'edm': "),
    ],
)
def test_settings_that_describe_no_network_are_one_short_line(run, change, message):
    step = run / "checkpoints/12"
    (step / "hashes.json").unlink()
    record = json.loads((step / "config/metadata").read_text())
    record["model"] |= change
    (step / "config/metadata").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"^{run}.*{message}") as found:
        restore_model(run)
    assert "\n" not in str(found.value) and len(str(found.value)) < 600


@pytest.mark.slow
def test_the_one_line_of_a_damaged_checkpoint_stands_alone(run, capsys):
    step = run / "checkpoints/12"
    (step / "hashes.json").unlink()
    tree = step / "ema/_METADATA"
    # The last array: orbax has begun with those before it when it comes to this one.
    tree.write_text("ax.Array".join(tree.read_text().rsplit("jax.Array", 1)))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert main(["sample", "--checkpoint", str(run), "--out", str(run / "out")]) == 2
        gc.collect()
    assert not [w for w in warned if "never awaited" in str(w.message)]
    assert re.fullmatch(r'error: .*checkpoints/12: .*"ax\.Array".*\n', capsys.readouterr().err)


class Broken:
    """Raises where there is nobody to raise to, as orbax's threads do."""

    def __init__(self, message):
        self.message = message

    def __del__(self):
        raise RuntimeError(self.message)


@pytest.mark.slow
def test_a_closed_event_loop_is_told_nothing_after_the_checkpoints_are_closed(run, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda given: told.append(str(given.exc_value)))
    steps(run)
    for message in ("Event loop is closed", "another"):
        Broken(message)
    gc.collect()
    assert told == ["another"]


def test_all_checkpoints_damaged_is_an_error_that_says_what_to_do(run):
    for step in (4, 8, 12):
        flip(run / f"checkpoints/{step}/state")
    with pytest.raises(ValueError, match=r"checkpoints/12 is damaged .*--from-step 0 begins anew"):
        loop.train(tiny(), str(run), quiet=True)
    assert steps(run) == [4, 8, 12]


@pytest.mark.slow
def test_a_run_goes_on_from_an_older_step_when_asked(run, finished):
    with pytest.raises(ValueError, match="from_step must be one of 0, 4, 8, 12, got 5"):
        loop.train(tiny(), str(run), quiet=True, from_step=5)
    shorter = tiny(duration_kimg=0.096, keep_checkpoints=3)
    assert loop.train(shorter, str(run), quiet=True, from_step=4) is None
    assert steps(run) == [4, 6]
    assert sorted(p.name for p in (run / "set_aside").iterdir()) == ["12", "8"]
    # Nothing later than step 6 is left among the pictures, averages and numbers.
    assert [p.name for p in run.glob("*.png")] == ["samples-00000004.png"]
    assert {each.step for each in posthoc.snapshots(str(run))} == {4, 6}
    assert metrics.read(run)[-1]["step"] == 6
    flip(run / "checkpoints/4/state")
    with pytest.raises(ValueError, match="checkpoints/4 is damaged"):
        loop.train(tiny(), str(run), quiet=True, from_step=4)


def broken(monkeypatch, at, params=lambda tree: tree, loss=jnp.nan):
    """Makes the step whose number is `at` give such a loss and such parameters."""

    def step(state, batch, key):
        del batch, key
        now = state.step + 1 == at
        value = jnp.where(now, loss, 1.0)
        binned = {"loss_by_sigma": value[None], "count_by_sigma": jnp.ones(1)}
        moved = jax.tree.map(lambda a: jnp.where(now, params(a), a), state.params)
        return state.replace(step=state.step + 1, params=moved), {"loss": value, **binned}

    assemble = loop.assemble
    monkeypatch.setattr(
        loop, "assemble", lambda *given, **data: assemble(*given, **data)._replace(step=step)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "broke", [{}, {"loss": 1.0, "params": lambda a: a * jnp.inf}], ids=["loss", "state"]
)
def test_nothing_is_written_of_a_step_that_is_not_finite(tmp_path, monkeypatch, broke):
    broken(monkeypatch, at=6, **broke)
    # A grid and a snapshot would be due at step 6, a line of the log and a checkpoint later.
    config = tiny(log_kimg=0.128, checkpoint_kimg=0.064, ema_snapshot_kimg=0.048, sample_kimg=0.048)
    with pytest.raises(
        loop.NonFiniteLossError, match="step 6 must be finite, got nan|must be finite after step 6"
    ):
        loop.train(config, str(tmp_path), quiet=True)
    assert {each.step for each in posthoc.snapshots(str(tmp_path))} == {3}
    assert [p.name for p in tmp_path.glob("*.png")] == ["samples-00000003.png"]
    assert steps(tmp_path) == [4]


@pytest.mark.slow
def test_a_run_that_goes_on_removes_the_snapshots_of_the_attempt_before(run, capsys):
    """They may be of a loss that went off; averaged with the new ones they would spoil the mean."""
    stale = run / "averages/power-0.050-00000011"
    shutil.copytree(run / "averages/power-0.050-00000012", stale)
    for step in (8, 12):
        shutil.rmtree(run / f"checkpoints/{step}")
    loop.train(tiny(), str(run))
    assert "removed 7 grids and models of steps after 4" in capsys.readouterr().err
    assert not stale.exists()
    assert {each.step for each in posthoc.snapshots(str(run))} == {4, 8, 12}


class Killed(BaseException):
    """In place of a signal."""


def remove_half(path, **options):
    """Removes half of a folder's files, and comes to a sudden end."""
    del options
    found = sorted(p for p in pathlib.Path(path).rglob("*") if p.is_file())
    if not found:  # which there is nothing to remove in
        raise FileNotFoundError(path)
    for file in found[: len(found) // 2]:
        file.unlink()
    raise Killed


def whole(workdir):
    """The steps and the snapshots under final names; all of them load."""
    folders = [p for p in (workdir / "checkpoints").iterdir() if p.name[0] != "."]
    with Checkpoints(workdir, read_only=True) as checkpoints:
        found = checkpoints.steps()
        assert [checkpoints.damage(step) for step in found] == [None] * len(found)
    assert sorted(int(p.name) for p in folders) == found
    kept = posthoc.snapshots(str(workdir))
    for path in [*folders, *(each.path for each in kept)]:
        edm_jax.load(path)
    return found, {each.step for each in kept}


def unfinished(workdir):
    """What has a temporary name."""
    return [p for p in workdir.rglob("*") if p.name.endswith(".tmp") or "orbax-check" in p.name]


@pytest.mark.slow
def test_a_kill_while_checkpoints_are_removed_leaves_whole_ones(tmp_path, finished, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", remove_half)
    with pytest.raises(Killed):  # at step 12, with 4 and 8 there
        loop.train(tiny(keep_checkpoints=1), str(tmp_path), quiet=True)
    monkeypatch.undo()
    found, _ = whole(tmp_path)
    assert found[-1] == 8 and unfinished(tmp_path)
    # The half of a step that a kill leaves in the middle of writing it.
    half = tmp_path / "checkpoints/9.orbax-checkpoint-tmp"
    shutil.copytree(finished / "checkpoints/12/ema", half / "ema")
    assert loop.train(tiny(keep_checkpoints=1), str(tmp_path), quiet=True) is None
    assert whole(tmp_path) == ([12], {4, 8, 12}) and not unfinished(tmp_path)
    jax.tree.map(
        np.testing.assert_array_equal, edm_jax.load(tmp_path).params, edm_jax.load(finished).params
    )


@pytest.mark.slow
def test_a_kill_while_snapshots_are_removed_leaves_whole_ones(run, monkeypatch):
    for step in (8, 12):
        shutil.rmtree(run / f"checkpoints/{step}")
    monkeypatch.setattr(shutil, "rmtree", remove_half)
    with pytest.raises(Killed):
        loop.train(tiny(), str(run), quiet=True)
    monkeypatch.undo()
    assert whole(run) == ([4], {4, 8, 12}) and unfinished(run)
    assert loop.train(tiny(), str(run), quiet=True) is None
    assert whole(run) == ([8, 12], {4, 8, 12}) and not unfinished(run)


def test_a_step_in_a_bucket_is_no_step_before_it_is_removed(tmp_path, monkeypatch):
    """There orbax removes its files one by one under its name."""
    gone = []

    def delete(manager, step):
        gone.append((step, (manager.directory / f"{step}/commit_success.txt").exists()))

    monkeypatch.setattr(ocp.CheckpointManager, "delete", delete)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"ema": {"a": jnp.ones(2)}}, {})
            checkpoints._manager.wait_until_finished()
            (checkpoints.folder(step) / "commit_success.txt").write_text("")
        checkpoints.wait()
    assert gone == [(1, False), (1, False), (2, False)]
    assert (tmp_path / "checkpoints/3/commit_success.txt").exists()


def test_an_average_of_a_step_that_has_no_snapshots_yet_is_refused(run, tmp_path, capsys):
    words = ["ema", str(run), str(tmp_path / "out"), "--std", "0.1"]
    assert main([*words, "--step", "13"]) == 2
    assert "step must be between 1 and 12, the latest snapshot's, got 13" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_what_was_saved_stays(run, monkeypatch, capfd):
    usage = shutil.disk_usage(run)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="No space left on device: 4.1 MB are needed, 0.1 left"):
        loop.train(tiny(duration_kimg=0.256, keep_checkpoints=3), str(run), quiet=True)
    assert capfd.readouterr().err == ""
    assert steps(run) == [4, 8, 12]


FULL = """
import resource, sys
import jax.numpy as jnp
from edm_jax.cli.main import run
from edm_jax.weights.checkpoint import Checkpoints

def program():
    with Checkpoints(sys.argv[1]) as checkpoints:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))  # no file may grow beyond
        checkpoints.save(1, {"ema": {f"a{i}": jnp.full(999, i) for i in range(50)}}, {})
        checkpoints.wait()

sys.exit(run(program))
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_is_one_line(tmp_path):
    pytest.importorskip("resource")
    words = [sys.executable, "-c", FULL, str(tmp_path)]
    # The cache of compiled programs has its own warning of a full disk.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    ended = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert ended.returncode == 2
    where = f"{str(tmp_path / 'checkpoints/1')!r}"
    assert ended.stderr == f"error: [Errno 27] File too large: {where}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", ['{"model": [], "config": {}}', '{"model": {}, "config": 3}', "[]"]
)
def test_a_record_of_other_things_than_settings_is_named(run, content):
    step = run / "checkpoints/12"
    (step / "hashes.json").unlink()  # as earlier versions wrote
    (step / "config/metadata").write_text(content)
    with pytest.raises(ValueError, match="must be settings by name, got") as raised:
        edm_jax.load(run)
    assert "\n" not in str(raised.value)
    loop.train(tiny(keep_checkpoints=3), str(run), quiet=True)
    assert steps(run) == [4, 8, 12] and (run / "set_aside/12").is_dir()
