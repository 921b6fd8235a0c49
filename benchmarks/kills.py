"""Is anything lost or left half written when a command is killed?

    python benchmarks/kills.py [--kills train=50,sample=15] [--seed 0]

For every command: run it once, undisturbed. Then run it again into another place, killing its
process group (SIGKILL) at a random moment, but never before it is at work, and start the same
command again, until it has come to its end; begin anew until there were enough kills. After each
kill every file under a final name must be whole, and at the end everything must be as undisturbed:
for a run, parameters, averages and optimizer state bit for bit; else, bytes.

Processes are forked from one that has imported the package and done nothing else.
"""

import argparse
import collections
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
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
from edm_jax.cli.main import COMMANDS, run_command
from edm_jax.data import archive
from edm_jax.model import Model
from edm_jax.weights import load, save
from edm_jax.weights.checkpoint import Checkpoints
from edm_jax.weights.safetensors import read_safetensors

ROOT = pathlib.Path(__file__).resolve().parents[1]
KILLS = "train=50,sample=15,dataset=10,convert=10,posterior-variance=10,ema=5"
MOST = 4.0  # seconds of work before a kill
AIMED = 0.2  # share of a run's kills that wait for the next removal of a checkpoint
SMALL = (
    "--config.duration_kimg=6.4",
    "--config.checkpoint_kimg=0.32",
    "--config.log_kimg=0.64",
    "--config.sample_kimg=0",
    "--config.ema_power=(0.05,0.1)",
    "--config.ema_snapshot_kimg=0.64",
    "--config.model.model_channels=8",
    "--config.model.channel_mult=(1,)",
    "--config.model.attn_resolutions=()",
)


class Case(NamedTuple):
    """A command to kill.

    Attributes:
      words: (folder to write to) -> its arguments.
      written: (folder) -> names; it is at work when there is one that was not there.
      whole: (folder) -> raises when something under a final name is not whole.
      same: (undisturbed folder, killed folder) -> whether the results are the same.
      removal: a path in the folder that is there while something is removed.
    """

    words: Callable[[pathlib.Path], list[str]]
    written: Callable[[pathlib.Path], set[str]]
    whole: Callable[[pathlib.Path], None]
    same: Callable[[pathlib.Path, pathlib.Path], bool]
    removal: str | None = None


def files(folder: pathlib.Path) -> set[str]:
    """Every file of a folder, by path."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def steps(folder: pathlib.Path) -> set[str]:
    """The checkpoints of a run, and the one that is being written."""
    place = folder / "run/checkpoints"
    return {p.name for p in place.iterdir() if p.name[0] != "."} if place.is_dir() else set()


def said(folder: pathlib.Path) -> set[str]:
    """Whether a command has said that it measures."""
    return {word for word in ("measuring",) if word in log(folder).read_text()}


def log(folder: pathlib.Path) -> pathlib.Path:
    """Where a command's words go that writes to a folder."""
    return folder.with_name(f"{folder.name}.log")


def doing(folder: pathlib.Path) -> str:
    """What a killed command was at, by what it has left."""
    left = {p.name for p in folder.rglob("*")}
    if any(".orbax-checkpoint-tmp" in name for name in left):
        return "saving"
    if ".removed.tmp" in left:
        return "removing"
    return "writing" if any(name.endswith((".tmp", ".partial")) for name in left) else ""


def final(workdir: pathlib.Path) -> tuple[int, dict]:
    """The step and the arrays of a run's newest checkpoint."""
    folder = workdir / "run" / "checkpoints"
    step = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    reader = ocp.StandardCheckpointer()
    items = [p for p in (folder / str(step)).iterdir() if (p / "_METADATA").is_file()]
    return step, {p.name: reader.restore(p) for p in items}


def same_run(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two runs ended at one step with equal bits, and kept the same averages."""
    (step, wanted), (reached, found) = final(one), final(other)
    equal = jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), wanted, found)
    averages = same_bytes(one / "run/averages", other / "run/averages")
    return step == reached and jax.tree.all(equal) and averages


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file of a folder, by path; what a killed process left under a temporary name aside."""
    temporary = lambda part: part.startswith(".") and part.endswith(".tmp")
    final = (name for name in files(folder) if not any(map(temporary, pathlib.Path(name).parts)))
    return {name: (folder / name).read_bytes() for name in final}


def same_bytes(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two folders hold the same files."""
    return contents(one) == contents(other)


def whole_run(folder: pathlib.Path) -> None:
    """Every checkpoint has the bytes that were written, the newest loads, and all snapshots."""
    with Checkpoints(folder / "run", read_only=True) as checkpoints:
        found = checkpoints.steps()
        for step in found:
            if (wrong := checkpoints.damage(step)) or not checkpoints.folder(step).exists():
                raise ValueError(f"step {step}: {wrong}")
    if found:
        load(folder / f"run/checkpoints/{found[-1]}")
    for path in (folder / "run/averages").glob("power-*"):
        read_safetensors(path / "weights.safetensors")


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
        place = ["--out", str(folder / "x.npz"), "--num", "1024", "--levels", "10"]
        return ["posterior-variance", "--checkpoint", run, "--data", "digits", *place]

    def ema(folder):
        return ["ema", run, str(folder / "model"), "--std", "0.08"]

    model = whole_if_there("model", load)
    return {
        "train": Case(train, steps, whole_run, same_run, "run/checkpoints/.removed.tmp"),
        "sample": Case(sample, files, whole_pictures, same_bytes),
        "dataset": Case(dataset, files, whole_if_there("images.zip", archive.load), same_bytes),
        "convert": Case(convert, files, model, same_bytes),
        "posterior-variance": Case(variance, said, whole_if_there("x.npz", np.load), same_bytes),
        "ema": Case(ema, files, model, same_bytes),
    }


def pictures(scratch: pathlib.Path) -> None:
    """Makes images for a data set."""
    rng = np.random.default_rng(0)
    for i in range(2000):
        path = scratch / "pictures" / f"class{i % 4}" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)


def large(scratch: pathlib.Path) -> None:
    """Makes a model of some size to convert."""
    config = ddpmpp(resolution=16, model_channels=96, num_blocks=2)
    save(Model.init(jax.random.key(0), config), scratch / "large")


def command(words: list[str], output: pathlib.Path) -> None:
    """Runs a command, in a process group of its own."""
    os.setsid()
    with output.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(run_command(words[0], words[1:]))


def start(case: Case, folder: pathlib.Path):
    """Starts a command; returns its process when it is at work, or has ended."""
    before = case.written(folder) if log(folder).exists() else set()
    log(folder).write_text("")
    server = multiprocessing.get_context("forkserver")
    child = server.Process(target=command, args=(case.words(folder), log(folder)))
    child.start()
    while child.is_alive():
        try:
            if case.written(folder) - before:
                break
        except OSError:  # a temporary one went while we looked
            break
        time.sleep(0.001)
    return child


def undisturbed(case: Case, folder: pathlib.Path) -> float:
    """Runs a command to its end; returns the seconds from the begin of its work to its end."""
    folder.mkdir()
    child = start(case, folder)
    began = time.monotonic()
    child.join()
    if child.exitcode:
        sys.exit(f"{' '.join(case.words(folder))} failed: {log(folder).read_text()}")
    return time.monotonic() - began


def killed_at(case: Case, folder: pathlib.Path, child, seconds: float, aimed: bool) -> str | None:
    """Kills a command after so long; returns what it was at, or None if it had ended."""
    child.join(timeout=seconds)
    while aimed and child.is_alive() and not (folder / case.removal).exists():
        pass
    if not child.is_alive():
        return None
    os.killpg(child.pid, signal.SIGKILL)
    child.join()
    return doing(folder)


def soak(name: str, case: Case, kills: int, scratch: pathlib.Path, chance: random.Random) -> None:
    """Kills one command so many times; ends the program when something is lost."""
    killed, wanted = scratch / f"{name}-killed", scratch / name
    span = MOST if wanted.exists() else min(undisturbed(case, wanted), MOST)
    were, ends = collections.Counter(), 0

    def end(child):
        nonlocal ends
        child.join()
        # Killed after its last rename, before it ended: the next one finds the result there, and
        # may refuse to make it again.
        if not case.same(wanted, killed):
            words = log(killed).read_text()
            sys.exit(f"{name}: after {were} the end differs (exit {child.exitcode}): {words}")
        ends += 1
        shutil.rmtree(killed)
        log(killed).unlink()

    while were.total() < kills:
        killed.mkdir(exist_ok=True)
        child = start(case, killed)
        aimed = case.removal is not None and chance.random() < AIMED
        was = killed_at(case, killed, child, chance.uniform(0.0, span), aimed)
        if was is None:
            end(child)
        else:
            case.whole(killed)
            were[was or "else"] += 1
            print(f"{name}: killed {were.total()}, {was}", file=sys.stderr, flush=True)
    if killed.exists():
        end(start(case, killed))
    parts = ", ".join(f"{count} {was}" for was, count in sorted(were.items()))
    print(f"{name:20}{were.total():4} kills ({parts}), {ends} ends as undisturbed", flush=True)


def main() -> None:
    """Runs the soak; exits with 1 when anything is lost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", default=KILLS, help="how many of which commands")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(scratch / "cache"))
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        modules = [f"edm_jax.cli.{name.replace('-', '_')}" for name in COMMANDS]
        multiprocessing.set_forkserver_preload([*modules, "edm_jax.training.loop"])
        every = cases(scratch)
        trained = lambda folder: (
            (folder / "train").exists() or undisturbed(every["train"], folder / "train")
        )
        for name, _, count in (part.partition("=") for part in args.kills.split(",")):
            {"dataset": pictures, "convert": large}.get(name, trained)(scratch)
            soak(name, every[name], int(count), scratch, chance)


if __name__ == "__main__":
    main()
