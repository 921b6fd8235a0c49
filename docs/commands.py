"""Runs the shell commands of the README and of these pages, as they stand, in order.

    python docs/commands.py                     all pages
    python docs/commands.py docs/editing.md     some of them
    python docs/commands.py --list              what each command becomes, or why it is left out

Every page gets a folder of its own, with small data and a model of a minute's training, and its
blocks go through bash. `edm-jax`, `python` and the like are found there first as the programs of
this file: they append what makes a command small (SMALLER), or leave it out with a reason
(LEFT_OUT). Afterwards each file that a command was told to write must be there. The record,
commands.json, has every command with its seconds. Programs are compiled without optimisation, and
kept from page to page.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAMS = ("edm-jax", "python", "pip", "make", "gcloud", "on_all", "srun", ".venv/bin/pre-commit")

# The first pattern that a command has says why it is not run.
LEFT_OUT = {
    r"^(gcloud|on_all|srun) |--coordinator alpha": "needs a cluster",
    r"\.pkl|--published|raw-snapshots": "needs official weights",
    r"imagenet(64|512)_edm2|runs/latents|configs/imagenet64": "needs ImageNet",
    r"cifar10-32x32\.npz": "needs a feature network's file",
    r"^(pip|make|\.venv/bin/pre-commit) ": "changes the environment",
    r"benchmarks/(guidance|likelihood|distances|restore)\.py": "measures for minutes",
    r"examples/(own_loop|any_network|autoguidance)\.py|evaluate compare": "is run by the suite",
}

FEW_IMAGES = (
    "--config.duration_kimg=0.128 --config.batch_size=16 --config.log_kimg=0.032 "
    "--config.checkpoint_kimg=0.064 --config.sample_kimg=0 --config.augment=0 "
    "--config.model.model_channels=8 "
    "--config.model.channel_mult=(1,) --config.model.num_blocks=1 "
    "--config.model.attn_resolutions=()"
)
# What is appended to a command that has the pattern; the later of two equal options holds.
SMALLER = {
    r"^(edm-jax train|python train\.py) (?!.*--help)": FEW_IMAGES,
    r"train.*digits_edm2": "--config.ema_snapshot_kimg=0.032 --config.model.head_channels=8",
    r"train.*digits_classifier": "--config.model.head_channels=8",
    r"--config cifar10 --workdir": "--config.ema_power=(0.05,0.1) --config.ema_snapshot_kimg=0.064",
    r"--config\.eval_kimg": "--config.eval_kimg=0.064 --config.eval_images=32 "
    "--config.eval_data_images=4",
    r"^python train\.py .*--coordinator": "--config.duration_kimg=0.064",
    r"^(edm-jax sample|python sample\.py) .*--class random": "--seeds 0-7",
    r"^(edm-jax sample|python sample\.py) (?!.*(--class all|--list))": "--seeds 0-7",
    r"^(edm-jax sample|python sample\.py) .*--class all": "--seeds 0-1",
    r"^edm-jax (restore|edit) (?!--list)": "--num 2 --steps 6",
    r"^edm-jax restore (?!--list)": "--draws 2",
    r"^edm-jax edit ": "--columns 2",
    r"^edm-jax dataset .*--resolution 64": "--resolution 16",
    r"^edm-jax tune ": "--seeds 1000-1007 --nfe 5",
    r"^edm-jax posterior-variance ": "--num 16 --levels 4",
    r"^edm-jax evaluate bpd ": "--num 4 --ode-steps 3 --elbo-levels 4",
    r"^edm-jax evaluate fid .*--checkpoint": "--num 40 --ranges 1",
    r"^edm-jax evaluate fid .*--images": "--num 8",
    r"^edm-jax evaluate reference .*pca": "--components 4",
    r"benchmarks/solvers\.py": "--samples 8 --nfe 6 --solvers heun --grids edm",
}

# Of a page: what it trains itself, and must not find trained.
FRESH = {"README.md": "runs/digits", "docs/training.md": "runs/digits"}
# Of a page: other models that it takes for granted, copies of the small one or of another.
OTHERS = {
    "docs/conditioning.md": {"runs/small": "runs/digits"},
    "docs/edm2.md": {"runs/a": "runs/digits_edm2", "runs/b": "runs/digits_edm2"},
    "docs/training.md": {"runs/other": "runs/cifar10"},
    "docs/weights.md": {"runs/cifar10": "runs/digits"},
}
DESTINATIONS = ("--out", "--dest", "--workdir", "--plot", "--record")


def pages() -> list[pathlib.Path]:
    """The README, CONTRIBUTING and the pages."""
    docs = ROOT / "docs"
    top = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return top + sorted(docs.glob("*.md")) + sorted((docs / "from").glob("*.md"))


def blocks(page: pathlib.Path) -> list[str]:
    """The shell blocks of a page."""
    text = page.read_text()
    found = re.findall(r"^( *)```(?:bash|sh)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def commands(block: str) -> Iterator[list[str]]:
    """The commands of a block that one of PROGRAMS runs, as words; what bash adds is left out."""
    block = re.sub(r"<<'END'.*?^END$", "", block, flags=re.DOTALL | re.MULTILINE)
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set(";&"):
                words.append(word)
                continue
            start = next((i for i, w in enumerate(words) if w in PROGRAMS), None)
            if start is not None and (start == 0 or words[0] in ("do", "alias") or "=" in words[0]):
                yield words[start:]
            words = []


def why_not(words: list[str]) -> str | None:
    """The reason why a command is left out, or None."""
    line = " ".join(words) + " "
    return next((why for pattern, why in LEFT_OUT.items() if re.search(pattern, line)), None)


def smaller(words: list[str]) -> list[str]:
    """The command with what makes it small."""
    line = " ".join(words) + " "
    added = [more for pattern, more in SMALLER.items() if re.search(pattern, line)]
    return [*words, *" ".join(added).split()]


def shim(words: list[str]) -> int:
    """Runs one command in place of its program, and writes down what became of it."""
    record = {"page": os.environ["COMMANDS_PAGE"], "command": shlex.join(words)}
    code, why = 0, why_not(words)
    if why:
        record["left_out"] = why
    else:
        real = smaller(words)
        python = [sys.executable]
        program = [*python, "-m", "edm_jax"] if words[0] == "edm-jax" else python
        begun = time.monotonic()
        code = subprocess.run([*program, *real[1:]]).returncode
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        record |= {
            "run": shlex.join(real),
            "code": code,
            "seconds": round(time.monotonic() - begun, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "missing": [path for path in told_to_write(real) if not pathlib.Path(path).exists()],
        }
    with open(os.environ["COMMANDS_RECORD"], "a") as file:
        file.write(json.dumps(record) + "\n")
    return code


def told_to_write(words: list[str]) -> list[str]:
    """The paths that the options of a command name for its results."""
    return [path for flag, path in zip(words, words[1:]) if flag in DESTINATIONS]


def prepare(folder: pathlib.Path) -> None:
    """Writes what the pages take for granted: small data, a checkout, and a small model."""
    from PIL import Image

    for name in ("train.py", "sample.py", "configs", "benchmarks", "examples", "edm_jax"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "docs/figures", folder / "docs/figures")  # pictures are drawn there
    (folder / "data").mkdir()
    (folder / "runs").mkdir()
    rng = np.random.default_rng(0)

    def photographs(count: int, side: int) -> np.ndarray:
        coarse = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
        large = [np.asarray(Image.fromarray(c).resize((side, side), 2)) for c in coarse]
        return np.stack(large)

    names = ("photos", "ffhq1024", "afhqv2/cat", "afhqv2/dog", "ILSVRC/train/a", "ILSVRC/train/b")
    for name in names:
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(photographs(24, 72)):
            Image.fromarray(image).save(folder / name / f"{i}.png")
    made = {"data/cifar10": 24, "data/cifar10_held": 24, "data/seen": 24, "data/held_out": 24}
    for name, count in made.items():
        labels = np.arange(count) % 10
        np.savez(folder / f"{name}.npz", images=photographs(count, 32), labels=labels)
    with np.load(ROOT / "edm_jax/data/digits.npz") as digits:
        part = {"images": digits["images"][:64], "labels": digits["labels"][:64].astype(int)}
        np.savez(folder / "held-out.npz", **part)
    own = [sys.executable, "-m", "edm_jax"]
    for name in [*made, "held-out"]:
        convert = ["dataset", "--source", f"{name}.npz", "--dest", f"{name}.zip", "--quiet"]
        subprocess.run([*own, *convert], cwd=folder, check=True)
    foreign_files(folder, photographs)
    train = smaller(["edm-jax", "train", "--config", "digits", "--workdir", "runs/digits"])
    subprocess.run([*own, *train[1:], "--quiet"], cwd=folder, check=True)


def foreign_files(folder: pathlib.Path, photographs) -> None:
    """CIFAR-10's and MNIST's files as their authors publish them, of a few images."""
    import gzip
    import io
    import pickle
    import tarfile

    files = {
        f"data_batch_{i}": {
            b"data": photographs(10, 32).transpose(0, 3, 1, 2).reshape(10, -1),
            b"labels": list(range(10)),
        }
        for i in range(1, 6)
    }
    files["batches.meta"] = {b"label_names": [f"class {i}".encode() for i in range(10)]}
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name, content in files.items():
            data = pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    head = lambda *numbers: np.array(numbers, ">i4").tobytes()
    for name, data in (
        ("images-idx3", head(0x803, 8, 28, 28) + photographs(8, 28)[..., 0].tobytes()),
        ("labels-idx1", head(0x801, 8) + bytes(range(8))),
    ):
        with gzip.open(folder / f"train-{name}-ubyte.gz", "wb") as file:
            file.write(data)


def run(page: pathlib.Path, prepared: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Runs the blocks of a page in a folder of its own; returns what went wrong."""
    name = str(page.relative_to(ROOT))
    shutil.copytree(prepared, folder, symlinks=True)
    if name in FRESH:
        shutil.rmtree(folder / FRESH[name])
    bin = folder / ".venv/bin"
    bin.mkdir(parents=True)
    for program in PROGRAMS:
        file = bin / pathlib.Path(program).name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} --shim {program} "$@"\n')
        file.chmod(0o755)
    record = folder / "commands.jsonl"
    environment = os.environ | {
        "PATH": f"{bin}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        "COMMANDS_PAGE": name,
        "COMMANDS_RECORD": str(record),
    }
    others, wrong = OTHERS.get(name, {}), []
    for block in blocks(page):
        for copy, original in others.items():
            if (folder / original).is_dir() and not (folder / copy).exists():
                shutil.copytree(folder / original, folder / copy)
        bash = ["bash", "-eu", "-c", "shopt -s expand_aliases\n" + block]
        if subprocess.run(bash, cwd=folder, env=environment, stdin=subprocess.DEVNULL).returncode:
            wrong.append(f"{name}: this block failed:\n{block}")
    for line in record.read_text().splitlines() if record.exists() else ():
        entry = json.loads(line)
        if entry.get("missing"):
            wrong.append(f"{name}: {entry['run']} did not write {entry['missing']}")
    return wrong


def show(page: pathlib.Path) -> None:
    """Prints what the commands of a page become."""
    for block in blocks(page):
        for words in commands(block):
            why = why_not(words)
            said = f"left out, {why}: {shlex.join(words)}" if why else shlex.join(smaller(words))
            print(f"{page.relative_to(ROOT)}: {said}")


def main() -> int:
    """Runs what the command line names; returns 0 when all of it went well."""
    if sys.argv[1:2] == ["--shim"]:
        return shim(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=pathlib.Path, help="all of them without any")
    parser.add_argument("--list", action="store_true", help="run nothing; print what would be")
    parser.add_argument("--jobs", type=int, default=2, help="pages at once (2)")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/commands")
    args = parser.parse_args()
    chosen = [page.resolve() for page in args.pages] or pages()
    if args.list:
        for page in chosen:
            show(page)
        return 0
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(args.folder.resolve() / "programs"))
    shutil.rmtree(args.folder, ignore_errors=True)
    prepared = args.folder.resolve() / "prepared"
    prepared.mkdir(parents=True)
    prepare(prepared)
    each = lambda page: run(page, prepared, prepared.with_name(page.stem))
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        found = pool.map(each, [page for page in chosen if blocks(page)])
        wrong = [words for page in found for words in page]
    lines = [p.read_text() for p in sorted(args.folder.glob("*/commands.jsonl"))]
    done = [json.loads(line) for line in "".join(lines).splitlines()]
    (args.folder / "commands.json").write_text(json.dumps(done, indent=1))
    left = [entry for entry in done if "left_out" in entry]
    print(f"\n{len(done) - len(left)} commands were run, {len(left)} left out:")
    for entry in left:
        print(f"  {entry['page']}, {entry['left_out']}: {entry['command']}")
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
