"""Is anything lost when a run is killed?

    python benchmarks/soak.py [--kills 50] [--seed 0]

Trains a small digits run to its end, undisturbed. Then trains it again, killing its process group
(SIGKILL) at random moments and starting the same command after each, and compares the final
parameters, average and optimizer state bit for bit. Prints when each kill came.
"""

import argparse
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETTINGS = (
    "--config.duration_kimg=12.8",
    "--config.checkpoint_kimg=0.64",
    "--config.log_kimg=0.64",
    "--config.sample_kimg=0",
    "--config.model.model_channels=8",
    "--config.model.channel_mult=(1,)",
    "--config.model.attn_resolutions=()",
)


def start(workdir: pathlib.Path, cache: str) -> subprocess.Popen:
    """Starts the run in a process group of its own."""
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs/digits.py")]
    environment = dict(
        os.environ,
        JAX_COMPILATION_CACHE_DIR=cache,
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), "--quiet", *SETTINGS],
        start_new_session=True,
        env=environment,
    )


def final(workdir: pathlib.Path):
    """The arrays of the newest checkpoint."""
    folder = workdir / "checkpoints"
    step = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    reader = ocp.StandardCheckpointer()
    found = {p.name: reader.restore(p) for p in (folder / str(step)).iterdir() if _arrays(p)}
    return step, jax.tree.map(np.asarray, found)


def _arrays(path: pathlib.Path) -> bool:
    return path.is_dir() and path.name not in ("config", "metrics")


def main() -> None:
    """Runs the soak; exits with 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = pathlib.Path(scratch, "whole"), pathlib.Path(scratch, "killed")
        cache = str(pathlib.Path(scratch, "cache"))
        assert start(whole, cache).wait() == 0
        began = time.monotonic()
        assert start(pathlib.Path(scratch, "warm"), cache).wait() == 0
        span = time.monotonic() - began
        kills = 0
        while kills < args.kills:
            child = start(killed, cache)
            try:
                child.wait(timeout=chance.uniform(0.0, span))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                kills += 1
                folder = killed / "checkpoints"
                left = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
                print(f"kill {kills:2}: {', '.join(left) or 'nothing yet'}", flush=True)
            else:
                # It came to its end; begin another one.
                compare(whole, killed)
                subprocess.run(["rm", "-rf", str(killed)], check=True)
        assert start(killed, cache).wait() == 0
        compare(whole, killed)
    print(f"{kills} kills: nothing lost, the final state is bit-equal")


def compare(whole: pathlib.Path, killed: pathlib.Path) -> None:
    """Stops the program when the two runs' final states differ in any bit."""
    (step, wanted), (reached, found) = final(whole), final(killed)
    if step != reached:
        sys.exit(f"the killed run ended at step {reached}, not {step}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        other = found
        for key in path:
            other = other[getattr(key, "key", getattr(key, "idx", None))]
        if not np.array_equal(leaf, other, equal_nan=True):
            sys.exit(f"{jax.tree_util.keystr(path)} differs")


if __name__ == "__main__":
    main()
