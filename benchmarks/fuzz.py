# ruff: noqa: E402 (the environment and the path come before the imports)
"""Does a damaged or hostile file do more than raise its one error?

    python benchmarks/fuzz.py [--mutations 10000] [--seed 0] [--only pickle,torch]

Makes a small valid file for every reader, changes it at random (bits, bytes, lengths, pieces cut
out, doubled, swapped; in JSON also values and types) and reads it. Each reading must end within 10
seconds and 512 MB, execute nothing, and give either a result or one ValueError of one line. Prints
a table with the longest reading and the most memory that was held above what the program holds
before it reads, and a mutation that did otherwise for every way of doing so.
"""

import argparse
import codecs
import collections
import copy
import dataclasses
import gzip
import io
import json
import math
import os
import pathlib
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import tracemalloc  # noqa: F401 (imported here: to show a warning imports it, which is an "exec")
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import jax
import numpy as np
import official_pickles as official
from PIL import Image

from edm_jax.data import archive, prepare, sources
from edm_jax.evaluation import load_statistics
from edm_jax.model import Model
from edm_jax.networks import SongConfig
from edm_jax.networks.config import ModelConfig
from edm_jax.weights import load, save
from edm_jax.weights.directory import export_safetensors
from edm_jax.weights.errors import naming
from edm_jax.weights.official import nvidia, state_dicts, torch_tensors

SECONDS, MEGABYTES = 10, 512
# What no reader may do, as Python's audit events name it.
FORBIDDEN = ("exec", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
CONFIG = SongConfig(
    resolution=8, channels=1, model_channels=8, channel_mult=(1,), num_blocks=1,
    attn_resolutions=(), dropout=0.0,
)  # fmt: skip
FORMAT = prepare.Format("none", 8, 8, 3, fixed=False)
_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_VALUES = (None, True, -1, 0, 1e308, 2**63, "", "x" * 4096, [], {}, [[]], "../../etc/passwd")


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Between one and eight changes of bytes."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        at, kind = chance.randrange(len(out) or 1), chance.randrange(8)
        span = min(chance.choice((1, 2, 8, 64, 1024)), len(out) - at)
        if kind == 0 and out:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at : at + span] = chance.randbytes(span)
        elif kind == 2:
            width, layout = chance.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
            value = chance.choice(_INTEGERS) % 256**width
            out[at : at + width] = struct.pack(chance.choice("<>") + layout, value)
        elif kind == 3:
            del out[at : at + span]
        elif kind == 4:
            out[at:at] = out[at : at + span] * chance.choice((1, 2, 50))
        elif kind == 5:
            del out[at:]
        elif kind == 6:
            other = chance.randrange(len(out) or 1)
            out[at : at + span] = out[other : other + span]
        else:
            out[at:at] = chance.randbytes(span)
    return bytes(out)


def mutate_json(text: bytes, chance: random.Random) -> bytes:
    """As `mutate`, or a value of another type somewhere, a key gone, a key more."""
    if chance.random() < 0.3:
        return mutate(text, chance)
    root = [json.loads(text)]
    for _ in range(chance.choice((1, 1, 2, 4))):
        place, key = root, 0
        while isinstance(place[key], (dict, list)) and place[key] and chance.random() < 0.85:
            place = place[key]
            key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        kind = chance.randrange(4)
        if kind == 0 and place is not root:
            del place[key]
        elif kind == 1 and isinstance(place, dict):
            place[chance.choice(("extra", "", "__class__"))] = _value(chance)
        elif kind == 2:
            for _ in range(chance.choice((1, 3000))):
                place[key] = [place[key]]
        else:
            place[key] = _value(chance)
        if not root:
            return b""
    try:
        return json.dumps(root[0]).encode()
    except RecursionError:
        return b"[" * 100_000


def _value(chance: random.Random) -> Any:
    # A copy: the next change may go into it, and would change what later mutations are given.
    return copy.deepcopy(chance.choice(_VALUES))


class Case:
    """A reader and a valid file for it.

    Attributes:
      read: reads the file at a path.
      path: of the file or folder to read.
      target: of the file that is changed.
      change: (content, chance) -> other content.
    """

    def __init__(self, read: Callable, path: pathlib.Path, target=None, change=mutate):
        self.read, self.path, self.change = read, path, change
        self.target = target or path
        self.content = self.target.read_bytes()


def cases(folder: pathlib.Path) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Every reader by name, with what makes its case."""
    model = lambda: Model.init(jax.random.key(0), CONFIG)

    def written(name: str, content: bytes) -> pathlib.Path:
        path = folder / name
        path.write_bytes(content)
        return path

    def snapshot(era: str, protocol: int) -> Case:
        official.SOURCE = "raise SystemExit('executed')\n"
        weights, arguments = nvidia.to_state_dict(model())
        small = {name: value for name, value in weights.items() if value.size < 50}
        # The whole network is large; what is parsed is the same for a few of its arrays.
        data = official.snapshot(small, arguments, era, protocol)

        def read(path: pathlib.Path) -> None:
            with naming(path):
                nvidia.parse_pickle(path.read_bytes())

        return Case(read, written("net.pkl", data))

    def safetensors() -> Case:
        path = folder / "x.safetensors"
        export_safetensors(model(), path)
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")

        def change(content: bytes, chance: random.Random) -> bytes:
            # The arrays may hold any bytes: most changes there only trace the network once more.
            whole = chance.random() < 0.05
            return (
                mutate(content, chance) if whole else mutate(content[:end], chance) + content[end:]
            )

        return Case(load, path, change=change)

    def saved() -> Case:
        save(model(), folder / "saved")
        return Case(load, folder / "saved", folder / "saved" / "config.json", mutate_json)

    def images() -> pathlib.Path:
        path, rng = folder / "images.zip", np.random.default_rng(0)
        with zipfile.ZipFile(path, "w") as file:
            names = [f"{i % 2:05d}/{i:08d}.png" for i in range(6)]
            for name in names:
                png = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(png, "png")
                file.writestr(name, png.getvalue())
            labels = [[name, i % 2] for i, name in enumerate(names)]
            file.writestr("dataset.json", json.dumps({"labels": labels, "classes": ["a", "b"]}))
        return path

    def read_archive(path: pathlib.Path) -> None:
        archive.load(path, workers=1)

    def listing() -> Case:
        with zipfile.ZipFile(images()) as file:
            file.extractall(folder / "unpacked")
        target = folder / "unpacked" / "dataset.json"
        return Case(read_archive, folder / "unpacked", target, mutate_json)

    def arrays() -> Case:
        np.savez(folder / "x.npz", images=np.zeros((4, 8, 8, 1), np.uint8), labels=np.arange(4))
        return Case(sources.open_source, folder / "x.npz")

    def script() -> Case:
        part, unit = official.script_part, {"weight": official.script_tensor("0", 2, 3)}
        module = part("Net", layers=part("Sequential", conv=part("Unit", **unit)))
        content = official.script(module, {"0": np.arange(6, dtype=np.float32)})
        return Case(state_dicts.read, written("inception.pt", content))

    def reference(name: str, protocol: int) -> Case:
        part = {"mu": np.arange(4.0), "sigma": np.eye(4)}
        content = pickle.dumps({"num_images": 7, "fid": part, "fd_dinov2": part}, protocol)
        return Case(load_statistics, written(name, content))

    def numbers() -> Case:
        digits = struct.pack(">4B3I", 0, 0, 8, 3, 4, 8, 8) + bytes(range(256))
        return Case(sources.open_source, written("x-idx3-ubyte.gz", gzip.compress(digits)))

    def cifar() -> Case:
        path = folder / "cifar-10-python.tar.gz"
        pixels = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
        names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
        records = {name: {b"data": pixels, b"labels": [0, 1]} for name in names}
        records["batches.meta"] = {b"label_names": [b"cat", b"dog"]}
        with tarfile.open(path, "w") as tar:  # its content, not its gzip layer, is what is changed
            for name, record in records.items():
                data = pickle.dumps(record, 2)
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return Case(sources.open_source, path)

    def values() -> Case:
        # Not data.mdb: it is liblmdb's own, which trusts it. What stands in it is read by us.
        import lmdb

        def read(path: pathlib.Path) -> None:
            content = path.read_bytes()
            database = folder / "x_lmdb"
            shutil.rmtree(database, ignore_errors=True)
            with lmdb.open(str(database)) as environment, environment.begin(write=True) as changes:
                changes.put(content[:200] or b"key", content)
            source = sources.open_source(database)
            with source.opened() as pixels:
                image, note = prepare.convert(pixels, source.items[0], FORMAT)
            if image is None:
                raise ValueError(note)

        png = io.BytesIO()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(png, "png")
        return Case(read, written("value.png", png.getvalue()))

    def checkpoint(part: str, change=mutate_json) -> Case:
        # By itself: orbax takes seconds to import, and half a second for the arrays of a network.
        from edm_jax.weights.checkpoint import Checkpoints, placed

        path = pathlib.Path(tempfile.mkdtemp(dir=folder))
        tree = {"w": jax.numpy.arange(6.0).reshape(2, 3), "b": {"x": jax.numpy.zeros(4)}}
        with Checkpoints(path) as checkpoints:
            checkpoints.save(1, {"ema": tree}, {"config": {}, "model": dataclasses.asdict(CONFIG)})
        # As earlier versions wrote: these hashes would stop every change before it is read.
        (path / "checkpoints/1/hashes.json").unlink()
        target = placed(tree, jax.tree.map(lambda leaf: leaf.sharding, tree))

        def read(path: pathlib.Path) -> None:
            with Checkpoints(path, read_only=True) as checkpoints:
                if checkpoints.steps() != [1] or checkpoints.damage(1, items=["ema"]):
                    raise ValueError("damaged")
                ModelConfig.from_dict(checkpoints.record(1)["model"])
                if part.startswith("ema"):
                    checkpoints.restore(1, {"ema": target})

        return Case(read, path, path / "checkpoints/1" / part, change)

    yield "pickle, protocol 4", lambda: snapshot("2.x", 4)
    yield "pickle, protocol 2", lambda: snapshot("1.12", 2)
    yield "torch file", lambda: _torch_file(folder, model())
    yield "torch script", script
    yield "statistics of EDM2", lambda: reference("img512.pkl", 4)
    yield "statistics, protocol 5", lambda: reference("img512.pkl", 5)
    yield "safetensors", safetensors
    yield "saved model's config.json", saved
    yield "zip archive", lambda: Case(read_archive, images())
    yield "dataset.json", listing
    yield "npz arrays", arrays
    yield "idx.gz", numbers
    yield "cifar tar", cifar
    yield "lmdb values", values
    yield "checkpoint, config", lambda: checkpoint("config/metadata")
    yield "checkpoint, tree", lambda: checkpoint("ema/_METADATA")
    yield "checkpoint, step", lambda: checkpoint("_CHECKPOINT_METADATA")
    yield "checkpoint, arrays", lambda: checkpoint("ema/manifest.ocdbt", mutate)


def _torch_file(folder: pathlib.Path, model: Model) -> Case:
    """A zip archive as torch.save writes state dicts; the arrays are made of it too."""
    weights, _ = nvidia.to_state_dict(model)
    path, records = folder / "x.pt", {}
    kind, nothing = official.Named("torch", "FloatStorage"), collections.OrderedDict()
    with zipfile.ZipFile(path, "w") as file:
        for i, (name, value) in enumerate(weights.items()):
            if value.size < 50:
                stored = official.Stored(("storage", kind, str(i), "cpu", value.size))
                strides = tuple(s // value.itemsize for s in value.strides)
                parts = (stored, 0, value.shape, strides, False, nothing)
                records[name] = official.Made(official.TENSOR, parts)
                file.writestr(f"x/data/{i}", value.tobytes())
        file.writestr("x/data.pkl", official.dumps(records, 2))
        file.writestr("x/version", "3\n")

    def read(path: pathlib.Path) -> None:
        with naming(path):
            file = torch_tensors.read_any(path.read_bytes(), torch_tensors.TENSOR_GLOBALS)
            state_dicts.weights_of(file)

    return Case(read, path)


def attempt(case: Case, content: bytes) -> str:
    """What reading `content` leads to: "read", "refused", or what went wrong."""
    case.target.write_bytes(content)
    try:
        case.read(case.path)
    except ValueError as error:
        lines = str(error).strip().splitlines()
        return "refused" if len(lines) == 1 and len(lines[0]) < 2000 else f"{len(lines)} lines"
    except MemoryError:
        return f"over {MEGABYTES} MB"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:80]}"
    return "read"


def fuzz(
    make: Callable[[], Case], mutations: int, seed: int
) -> tuple[dict[str, list[int]], tuple[float, float]]:
    """Runs one case in a process of its own.

    Returns:
      Outcome -> numbers of its mutations; the longest reading in seconds, and the peak in MB.
    """
    outcomes: dict[str, list[int]] = {}
    worst = (math.nan, math.nan)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os._exit(_work(make, mutations, seed, writer))
    os.close(writer)
    with os.fdopen(reader) as lines:
        for line in lines:
            number, *outcome = line.rstrip("\n").split("\t")
            if number == "worst":
                worst = (float(outcome[0]), float(outcome[1]))
            else:
                outcomes.setdefault(outcome[0], []).append(int(number))
    _, status = os.waitpid(child, 0)
    if status:
        outcomes[f"the process ended with status {status}"] = [-1]
    return outcomes, worst


def _work(make: Callable[[], Case], mutations: int, seed: int, writer: int) -> int:
    case = make()
    assert attempt(case, case.content) == "read", attempt(case, case.content)
    executed: list[str] = []
    watching = [False]

    def watch(event: str, arguments: tuple) -> None:
        # A configuration with "remat" lets flax make a class, whose methods dataclasses compiles.
        own = event == "exec" and sys._getframe(1).f_globals.get("__name__") == "dataclasses"
        if watching[0] and event in FORBIDDEN and not own:
            executed.append(event)

    for name in ("utf-8-sig", *(f"utf-{n}{end}" for n in (16, 32) for end in ("", "-le", "-be"))):
        codecs.lookup(name)  # json imports the one that a text looks like, which counts as "exec"
    Image.init()  # imports what an unknown file is tried with
    sys.addaudithook(watch)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20, resource.RLIM_INFINITY))

    def late(*_: object) -> None:
        raise TimeoutError(f"over {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    held, longest = _resident("VmRSS"), 0.0
    with os.fdopen(writer, "w") as out:
        for number in range(mutations):
            content = case.change(case.content, random.Random(f"{seed}/{number}"))
            executed.clear()
            signal.alarm(SECONDS)
            watching[0] = True
            began = time.monotonic()
            outcome = attempt(case, content)
            longest = max(longest, time.monotonic() - began)
            watching[0] = False
            signal.alarm(0)
            outcome = f"executed {executed[0]}" if executed else " ".join(outcome.split())
            print(number, outcome, sep="\t", file=out, flush=True)  # a crash loses no line
        print("worst", longest, _resident("VmHWM") - held, sep="\t", file=out)
    return 0


def _resident(name: str) -> float:
    """MB that this process holds (VmRSS), or has held at most (VmHWM)."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def main() -> int:
    """Fuzzes the readers; returns 1 where one did more than it may."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="beginnings of names, with commas")
    args = parser.parse_args()
    wrong = 0
    print(f"{'reader':28}{'read':>8}{'refused':>9}{'wrong':>7}{'longest s':>11}{'MB':>6}{'s':>7}")
    scratch = pathlib.Path(tempfile.mkdtemp())
    for name, make in cases(scratch):
        if not name.startswith(tuple(args.only.split(","))):
            continue
        began = time.monotonic()
        found, (longest, peak) = fuzz(make, args.mutations, args.seed)
        counts = [len(found.pop(key, [])) for key in ("read", "refused")]
        bad = sum(map(len, found.values()))
        wrong += bad
        seconds = time.monotonic() - began
        numbers = f"{counts[0]:8}{counts[1]:9}{bad:7}{longest:11.2f}{peak:6.0f}{seconds:7.0f}"
        print(f"{name:28}{numbers}", flush=True)
        for outcome, which in found.items():
            print(f"    {outcome}: {len(which)}, such as mutation {which[0]}", flush=True)
    shutil.rmtree(scratch, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
