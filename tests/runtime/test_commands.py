"""The commands in two processes of four devices each: lost processes, signals, other hosts."""

import pathlib
import shutil
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from processes import ROOT, finish, start

from edm_jax import load
from edm_jax.cli import train
from edm_jax.cli.main import main
from edm_jax.runtime import processes
from edm_jax.training import loop, metrics

pytestmark = [pytest.mark.slow, pytest.mark.processes]

STEPS, EVERY = 40, 4
SETTINGS = (
    "--config", str(ROOT / "configs/digits.py"),
    "--config.batch_size=16", f"--config.checkpoint_kimg={16 * EVERY / 1e3}",
    f"--config.log_kimg={16 * EVERY / 1e3}", "--config.sample_kimg=0", "--config.augment=0.0",
    "--config.model.model_channels=8", "--config.model.channel_mult=(1,)",
    "--config.model.num_blocks=1", "--config.model.attn_resolutions=()",
)  # fmt: skip


def settings(steps: int = STEPS) -> list[str]:
    return [*SETTINGS, f"--config.duration_kimg={16 * steps / 1e3}"]


def wait_for(path: pathlib.Path, children) -> None:
    deadline = time.monotonic() + 200
    while not path.exists():
        assert time.monotonic() < deadline and all(c.poll() is None for c in children), path
        time.sleep(0.01)


def final(workdir: pathlib.Path) -> tuple[int, list[np.ndarray]]:
    """The last checkpoint, onto one device of this process."""
    step = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    leaves = []
    with ocp.StandardCheckpointer() as reader:
        for item in ("state", "ema"):
            path = workdir / "checkpoints" / str(step) / item
            there = reader.metadata(path).item_metadata.tree
            target = jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=one), there
            )
            leaves += [np.asarray(a) for a in jax.tree.leaves(reader.restore(path, target))]
    return step, leaves


def same_run(one: pathlib.Path, other: pathlib.Path) -> int:
    """Asserts that two runs agree but for rounding; returns their last step."""
    (step, found), (reached, wanted) = final(one), final(other)
    assert step == reached
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-3)  # as Adam amplifies rounding
        assert np.median(np.abs(a - b)) < 1e-6 * max(1, np.abs(b).max())
    losses = [metrics.read(workdir)[-1]["loss"] for workdir in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    return step


@pytest.fixture(scope="module")
def begun(small_networks, tmp_path_factory):
    """The first steps of a run in one process of eight devices."""
    workdir = tmp_path_factory.mktemp("begun")
    loop.train(train.parse(settings(EVERY)).config, str(workdir), quiet=True)
    return workdir


def test_processes_come_and_go_and_nothing_is_lost(begun, tmp_path):
    lost, whole = tmp_path / "lost", tmp_path / "whole"
    for workdir in (lost, whole):
        shutil.copytree(begun, workdir)

    # One process is killed: the other ends soon, and says which one it was.
    children = start("train", *settings(), "--workdir", str(lost))
    wait_for(lost / "checkpoints" / str(2 * EVERY), children)
    children[1].kill()
    began = time.monotonic()
    (code, _, said), _ = finish(children)
    assert code not in (0, None) and time.monotonic() - began < processes.HEARTBEAT_SECONDS + 20
    # A collective may break before a heartbeat is missed; then its connection is what is named.
    _, beats, named = said.partition("stopped sending heartbeats")
    assert named.split()[1].endswith("1") if beats else "Gloo" in said or "onnection" in said, said

    # It goes on, by the other engine; a SIGTERM to one of the two saves on both, after the same
    # step.
    children = start("train", *settings(), "--config.engine=pmap", "--workdir", str(lost))
    wait_for(lost / "checkpoints" / str(4 * EVERY), children)
    children[1].send_signal(signal.SIGTERM)
    ended = finish(children)
    assert [code for code, _, _ in ended] == [128 + signal.SIGTERM] * 2, ended
    assert "stopped by SIGTERM after step" in ended[0][2] and not ended[1][2].count("stopped by")
    stopped_at = final(lost)[0]
    assert 4 * EVERY <= stopped_at < STEPS

    # One process goes on with what two have left: in the end it is as if nothing had happened.
    for workdir in (lost, whole):
        assert loop.train(train.parse(settings()).config, str(workdir), quiet=True) is None
    assert same_run(lost, whole) == STEPS
    assert [r["step"] for r in metrics.read(lost) if r["step"] % EVERY == 0] == [
        *range(EVERY, STEPS + 1, EVERY)
    ]


def test_two_processes_of_slurm_share_the_seeds(begun, tmp_path):
    wanted = ["--checkpoint", str(begun), "--seeds", "0-10", "--steps", "3", "--batch", "2"]
    assert main(["sample", *wanted, "--out", str(tmp_path / "one")]) == 0
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert len(names) == 11 + 4 and load(begun).config.label_dim == 10
    # A run that was stopped after some images, of either process's share.
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    kept = [f"{i:06d}.png" for i in (0, 3, 4)]
    for name in set(names) - {*kept, "sample.json", ".lock"}:
        (tmp_path / "two" / name).unlink()
    before = [(tmp_path / "two" / name).stat().st_mtime_ns for name in kept]

    ended = finish(start("sample", *wanted, "--out", str(tmp_path / "two"), slurm=True))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "grid.png" in ended[0][1] and "grid.png" not in ended[1][1]
    for name in names:
        two = (tmp_path / "two" / name).read_bytes()
        assert two == (tmp_path / "one" / name).read_bytes(), name
    assert before == [(tmp_path / "two" / name).stat().st_mtime_ns for name in kept]
