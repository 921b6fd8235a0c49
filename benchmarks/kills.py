"""Is anything lost or left half written when a command is killed?

    python benchmarks/kills.py [--kills 100] [--seed 0] [--only train,sample]

For every command: run it once, undisturbed. Then run it again into another place, killing its
process group (SIGKILL) at a random moment, but never before it is at work, and start the same
command again, until it has come to its end; begin anew until there were enough kills. After each
kill every file under a final name must be whole, and at the end everything must be as undisturbed:
for a run, parameters, averages and optimizer state bit for bit; else, bytes.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from PIL import Image

from edm_jax import ddpmpp
from edm_jax.model import Model
from edm_jax.weights import load, save

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = (
    "--config.duration_kimg=12.8",
    "--config.checkpoint_kimg=0.64",
    "--config.log_kimg=0.64",
    "--config.sample_kimg=0",
    "--config.model.model_channels=8",
    "--config.model.channel_mult=(1,)",
    "--config.model.attn_resolutions=()",
)


class Case(NamedTuple):
    """A command to kill.

    Attributes:
      words: (folder to write to) -> its arguments.
      at_work: (folder) -> whether it has begun to write.
      whole: (folder) -> raises or returns a sentence when a file under a final name is not whole.
      same: (undisturbed folder, killed folder) -> whether the results are the same.
    """

    words: Callable[[pathlib.Path], list[str]]
    at_work: Callable[[pathlib.Path], bool]
    whole: Callable[[pathlib.Path], None]
    same: Callable[[pathlib.Path, pathlib.Path], bool]


def final(workdir: pathlib.Path) -> tuple[int, dict]:
    """The step and the arrays of a run's newest checkpoint."""
    folder = workdir / "run" / "checkpoints"
    step = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    reader = ocp.StandardCheckpointer()
    items = [p for p in (folder / str(step)).iterdir() if (p / "_METADATA").is_file()]
    return step, {p.name: reader.restore(p) for p in items}


def same_state(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two runs ended at one step with equal bits."""
    (step, wanted), (reached, found) = final(one), final(other)
    equal = jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), wanted, found)
    return step == reached and jax.tree.all(equal)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file of a folder, by path; what a killed process left under a temporary name aside."""
    temporary = lambda p: any(part.startswith(".") and part.endswith(".tmp") for part in p.parts)
    files = (p for p in folder.rglob("*") if p.is_file() and not temporary(p))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def same_bytes(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two folders hold the same files."""
    return contents(one) == contents(other)


def whole_run(folder: pathlib.Path) -> None:
    """The two newest checkpoints load; one before them may be half removed, as two are kept."""
    steps = (p for p in (folder / "run" / "checkpoints").iterdir() if p.name.isdigit())
    for step in sorted(steps, key=lambda p: int(p.name))[-2:]:
        load(step)


def whole_pictures(folder: pathlib.Path) -> None:
    """Every PNG under its final name decodes."""
    for path in (folder / "images").rglob("[!.]*.png"):
        with Image.open(path) as image:
            image.load()


def whole_if_there(name: str, read: Callable[[pathlib.Path], object]) -> Callable:
    """One file or folder: not there yet, or whole."""

    def check(folder: pathlib.Path) -> None:
        if (folder / name).exists():
            read(folder / name)

    return check


def cases(scratch: pathlib.Path) -> dict[str, Case]:
    """The commands; they share a trained model and a folder of images in `scratch`."""
    run = str(scratch / "train" / "run")
    any_file = lambda folder: any(p.is_file() for p in folder.rglob("*"))

    def train(folder):
        config = ["--config", str(ROOT / "configs" / "digits.py")]
        return ["train", *config, "--workdir", str(folder / "run"), "--quiet", *SMALL]

    def sample(folder):
        place = ["--out", str(folder / "images"), "--seeds", "0-399", "--batch", "16"]
        return ["sample", "--checkpoint", run, *place, "--steps", "6"]

    def dataset(folder):
        place = ["--dest", str(folder / "images.zip"), "--workers", "1", "--quiet"]
        return ["dataset", "--source", str(scratch / "pictures"), *place]

    def convert(folder):
        return ["convert", str(scratch / "large"), str(folder / "model")]

    def variance(folder):
        place = ["--out", str(folder / "x.npz"), "--images", "256", "--levels", "10"]
        return ["posterior-variance", "--checkpoint", run, "--data", "digits", *place]

    return {
        "train": Case(
            train,
            lambda folder: (
                (folder / "run" / "checkpoints").is_dir()
                and any((folder / "run" / "checkpoints").iterdir())
            ),
            whole_run,
            same_state,
        ),
        "sample": Case(sample, any_file, whole_pictures, same_bytes),
        "dataset": Case(dataset, any_file, lambda folder: None, same_bytes),
        "convert": Case(
            convert,
            lambda folder: any(folder.iterdir()),
            whole_if_there("model", load),
            same_bytes,
        ),
        "posterior-variance": Case(
            variance, lambda folder: True, whole_if_there("x.npz", np.load), same_bytes
        ),
    }


def prepare(scratch: pathlib.Path) -> None:
    """Makes what the commands read: images to convert, and a model of some size."""
    rng = np.random.default_rng(0)
    for i in range(2000):
        path = scratch / "pictures" / f"class{i % 4}" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    config = ddpmpp(resolution=16, model_channels=96, num_blocks=2)
    save(Model.init(jax.random.key(0), config), scratch / "large")


def start(words: list[str], cache: str) -> subprocess.Popen:
    """Starts a command in a process group of its own."""
    environment = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        JAX_COMPILATION_CACHE_DIR=cache,
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = [sys.executable, "-m", "edm_jax", *words]
    return subprocess.Popen(command, start_new_session=True, env=environment, **quiet)


def undisturbed(case: Case, folder: pathlib.Path, cache: str) -> float:
    """Runs a command to its end; returns the seconds from the begin of its work to its end."""
    folder.mkdir()
    child = start(case.words(folder), cache)
    while child.poll() is None and not case.at_work(folder):
        time.sleep(0.001)
    began = time.monotonic()
    if child.wait():
        sys.exit(f"the command failed: {' '.join(case.words(folder))}")
    return time.monotonic() - began


def soak(name: str, case: Case, kills: int, scratch: pathlib.Path, chance: random.Random) -> None:
    """Kills one command so many times; ends the program when something is lost."""
    cache, killed = str(scratch / "cache"), scratch / f"{name}-killed"
    wanted = scratch / name
    if not wanted.exists():
        undisturbed(case, wanted, cache)
    span = undisturbed(case, scratch / f"{name}-warm", cache)
    done = ends = 0
    while done < kills:
        killed.mkdir(exist_ok=True)
        before = contents(killed).keys()
        child = start(case.words(killed), cache)
        # At work: it has written something beside what the last one left.
        while child.poll() is None and not (
            case.at_work(killed) and (not before or contents_changed(killed, before))
        ):
            time.sleep(0.001)
        try:
            child.wait(timeout=chance.uniform(0.0, span))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            done += 1
            case.whole(killed)
        else:
            # Killed after its last rename, before it ended: the next one finds the result there,
            # and may refuse to make it again.
            if not case.same(wanted, killed):
                sys.exit(f"{name}: after kill {done} the end differs (exit {child.returncode})")
            ends += 1
            shutil.rmtree(killed)
    if killed.exists():
        start(case.words(killed), cache).wait()
        if not case.same(wanted, killed):
            sys.exit(f"{name}: after the last kill the end differs")
        ends += 1
        shutil.rmtree(killed)
    print(f"{name:20}{done:5} kills, {ends:4} ends, all as undisturbed", flush=True)


def contents_changed(folder: pathlib.Path, before) -> bool:
    """Whether there are other files than before."""
    try:
        return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} != before
    except OSError:  # a temporary one went while we looked
        return True


def main() -> None:
    """Runs the soak; exits with 1 when anything is lost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="of all commands together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of commands, with commas")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        prepare(scratch)
        every = cases(scratch)
        undisturbed(every["train"], scratch / "train", str(scratch / "cache"))
        chosen = [name for name in every if not args.only or name in args.only.split(",")]
        for name in chosen:
            soak(name, every[name], -(-args.kills // len(chosen)), scratch, chance)


if __name__ == "__main__":
    main()
