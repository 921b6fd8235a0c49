"""How do time and memory grow with size, and is anything worse than linear?

    python benchmarks/growth.py [--small] [--only steps batch …] [--out growth.png]
        [--config configs/digits.py]

A table for each size that grows, times in ms of all processors, memory in MiB. Under each stands
the power of the size that its last growth was: 1 is linear, 0 is none; above 1.15 it says so.
  steps       of a sampler, 4 to 1,024: its table on the host, compiling, running (a closed-form
              denoiser of 8×8 images, so that what is left is the sampler's own)
  batch       images at once, 1 to 512, and their memory: one call of a small DDPM++ at 16×16×3
  resolution  a side of 32 to 256, by pixels: the same network at batch 1
  data        a set of 10^4 to 10^6 images in memory: the first batch of an epoch, which sorts it;
              another batch; the fingerprint that a run is recognised by
  lines       of stats.jsonl, 10^3 to 10^5: adding them, reading them, going on from the middle
  folder      images in one folder, 1,000 to 50,000: writing them, seeing which are there, the list
              of labels, the grid
  devices     1 to 64, simulated: collectives of the compiled training step of --config, their bytes
              and what a device holds, replicated and sharded; compiled only, for 4 images a device
"""

import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable

import jax
import numpy as np
import pairs
from etils import epath

from edm_jax import ideal, randomness, samplers, timesteps
from edm_jax.cli import latents, sample_folder
from edm_jax.cli.train import load_config
from edm_jax.data import loader
from edm_jax.data.archive import Dataset
from edm_jax.model import Model
from edm_jax.networks import ddpmpp
from edm_jax.runtime import engines
from edm_jax.training import bins, metrics, resume
from edm_jax.training.assemble import assemble

SHARE, LINEAR = 4, 1.15
Cells = dict[str, float]  # what a column says of a size
COLLECTIVES = "all-reduce all-gather reduce-scatter all-to-all collective-permute".split()
BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1, "u8": 1, "f64": 8}


def ms(call: Callable) -> float:
    """Milliseconds of all processors that one call takes."""
    return 1e3 * pairs.once(call)[1]


def peak(call: Callable) -> float:
    """MiB that a call holds on the host at most, beside what was there."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def best(call: Callable) -> float:
    """Milliseconds of the fastest of three calls, after one that compiles."""
    ms(call)
    return min(ms(call) for _ in range(3))


def steps(count: int) -> Cells:
    """A sampler of so many steps."""
    denoise = ideal.gaussian(0.0, 0.5)
    noise = randomness.normal(randomness.sample_keys(range(16)), (8, 8, 1))
    build = lambda: samplers.unipc(timesteps.edm(count))
    table = build()
    made = []

    def anew():
        made.append(jax.jit(lambda x: samplers.sample(denoise, table, x)).lower(noise).compile())

    return {
        "table": min(ms(build) for _ in range(3)),
        "compile": ms(anew),
        "run": best(lambda: made[0](noise)),
        "MiB": made[0].memory_analysis().temp_size_in_bytes / 2**20,
    }


def _call(batch: int, side: int) -> Cells:
    config = ddpmpp(
        resolution=side, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=()
    )
    model = Model.init(jax.random.key(pairs.SEEDS["weights"]), config)
    x = jax.random.normal(jax.random.key(pairs.SEEDS["inputs"]), (batch, side, side, 3))
    program = jax.jit(lambda model, x: model.denoiser()(x, 1.0)).lower(model, x).compile()
    memory = program.memory_analysis().temp_size_in_bytes / 2**20
    return {"call": best(lambda: program(model, x)), "MiB": memory}


def data(count: int) -> Cells:
    """A data set of so many images."""
    rng = np.random.default_rng(pairs.SEEDS["inputs"])
    dataset = Dataset(np.zeros((count, 8, 8, 1), np.uint8), rng.integers(0, 10, count), "zeros")
    loader.permutation.cache_clear()
    batch = lambda step=0: loader.batch(dataset, 0, step, 512)
    sort = lambda: loader.permutation.__wrapped__(count, 0, 0)
    first = ms(batch)
    return {
        "first batch": first,
        "next batch": min(ms(lambda i=i: batch(i)) for i in range(1, 9)),
        "fingerprint": ms(lambda: resume.fingerprint(dataset)),
        "sorting, MiB": peak(sort),
    }


def lines(count: int) -> Cells:
    """A run of so many log lines."""
    numbers = {"kimg": 1.0, "loss": 0.2, "grad_norm": 1.0, "images_per_second": 1e3}
    levels = {bins.SUMS: [0.1] * 40, bins.COUNTS: [10.0] * 40}
    with tempfile.TemporaryDirectory() as name:
        folder = epath.Path(name)

        def write():
            with metrics.Metrics(folder, 0) as log:
                for step in range(1, count + 1):
                    log.write({"step": step, **numbers, **levels})

        written = ms(write)
        read = lambda: metrics.read(folder) and None
        found = {"write": written, "read": ms(read), "read, MiB": peak(read)}
        found["go on"] = ms(lambda: metrics.rewind(folder / metrics.STATS, count // 2))
        return found


def folder(count: int) -> Cells:
    """So many images in one folder."""
    pixels = np.zeros((8, 8, 1), np.uint8)
    config = ddpmpp(resolution=8, channels=1, label_dim=10)
    names = [sample_folder.name_of(i) for i in range(count)]
    with tempfile.TemporaryDirectory() as name:
        out = epath.Path(name)

        def write():
            for each in names:
                latents.write_sample(pixels, out / each)

        labels = lambda: sample_folder.write_labels(out, config)
        return {
            "write": ms(write),
            "look": ms(lambda: [each for each in names if not (out / each).exists()]),
            "labels": ms(labels),
            "grid": ms(lambda: sample_folder.write_grid(out, names, None, ())),
            "labels, MiB": peak(labels),
        }


# name: (what is measured at a size, the sizes, those of --small)
TABLES = {
    "steps": (steps, (4, 16, 64, 256, 1024), (4, 16, 64)),
    "batch": (lambda n: _call(n, 16), (1, 8, 64, 512), (1, 4)),
    "resolution": (lambda n: _call(1, n), (32, 64, 128, 256), (16, 32)),
    "data": (data, (10**4, 10**5, 10**6), (10**3, 10**4)),
    "lines": (lines, (10**3, 10**4, 10**5), (10**2, 10**3)),
    "folder": (folder, (1_000, 10_000, 50_000), (100, 400)),
}


def grow(report: pairs.Report, name: str, small: bool) -> dict[str, list[tuple[int, float]]]:
    """Prints a table; returns its columns, with the sizes."""
    measure, *sizes = TABLES[name]
    columns: dict[str, list[tuple[int, float]]] = {}
    for size in sizes[small]:
        cells = measure(size)
        size = size**2 if name == "resolution" else size  # pixels
        if not columns:
            report.numbers(name, *cells)
        report.number(f"{size:,}", **cells)
        for column, value in cells.items():
            columns.setdefault(column, []).append((size, value))
    powers = {column: power(points) for column, points in columns.items()}
    report.number("power of the size", **powers)
    for column, found in powers.items():
        if found > LINEAR:
            print(f"more than linear: {column} by {name}")
    return columns


def power(points: list[tuple[int, float]]) -> float:
    """Of the size, by which the last two values differ."""
    (n, a), (m, b) = points[-2:]
    return math.log(max(b, 1e-6) / max(a, 1e-6)) / math.log(m / n)


def traffic(text: str) -> tuple[int, float]:
    """How many collectives an optimized program has, and the MiB of their results."""
    count, total = 0, 0
    for shapes, _ in re.findall(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", text):
        count += 1
        for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            total += BYTES[kind] * math.prod(int(n) for n in sides.split(",") if n)
    return count, total / 2**20


def devices(report: pairs.Report, file: str, classes: int, counts) -> None:
    """Compiles a configuration's step for simulated devices; nothing is allocated."""
    config = load_config(file)
    side = config.model.resolution or 8
    sizes = {"resolution": side, "channels": config.model.channels or 1, "label_dim": classes}
    report.numbers(f"{file}, MiB", "collectives", "their bytes", "state", "held", "temporaries")
    for layout, (kind, fsdp) in {"replicated": ("pmap", False), "fsdp": ("jit", True)}.items():
        for count in counts:
            engine = engines.engine(kind, fsdp=fsdp, devices=count)
            config.batch_size, config.microbatch = count * SHARE, 0
            run = assemble(config, engine, **sizes)
            state = jax.eval_shape(run.initial)
            shape = (config.batch_size, side, side, sizes["channels"])
            rows = {
                "images": np.zeros(shape, np.uint8),
                "labels": np.zeros((config.batch_size, classes), np.float32),
            }
            step = engine.compile(run.step, state)
            program = step.lower(state, engine.put(rows), engine.key(0)).compile()
            found, memory = traffic(program.as_text()), program.memory_analysis()
            whole = sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(state))
            report.number(
                f"{layout}, {count} devices",
                collectives=found[0],
                bytes=found[1],
                state=whole / 2**20,
                held=memory.argument_size_in_bytes / 2**20,
                temporaries=memory.temp_size_in_bytes / 2**20,
            )


def draw(path: str, tables: dict[str, dict[str, list[tuple[int, float]]]]) -> None:
    """Time and memory against size."""
    from matplotlib.figure import Figure

    across, down = min(3, len(tables)), -(-len(tables) // 3)
    figure = Figure(figsize=(4 * across, 3.5 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flat
    for axes in grid[len(tables) :]:
        axes.set_axis_off()
    for axes, (name, columns) in zip(grid, tables.items()):
        for column, points in columns.items():
            style = "--" if "MiB" in column else "-"
            axes.plot(*zip(*points), style, marker=".", label=column)
        axes.set(xscale="log", yscale="log", title=name, ylabel="ms, MiB")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Prints the tables."""
    parser = pairs.parser(__doc__)
    names = (*TABLES, "devices")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--config", default="configs/digits.py", help="whose step `devices` is of")
    parser.add_argument("--classes", type=int, default=10, help="of its data (10)")
    parser.add_argument("--out", metavar="PNG", help="also draw the tables")
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    counts = (1, 2) if args.small else (1, 2, 4, 8, 16, 32, 64)
    if args.only == ["devices"]:
        os.environ["XLA_FLAGS"] = (
            f"--xla_force_host_platform_device_count={counts[-1]} "
            "--xla_backend_optimization_level=0"  # the same buffers, sooner
        )
    report = pairs.Report("growth", args)
    if args.only == ["devices"]:
        devices(report, args.config, args.classes, counts)
        return
    tables = {n: grow(report, n, args.small) for n in TABLES if n in args.only}
    if args.out and tables:
        draw(args.out, tables)
    if "devices" in args.only:  # in a process of its own, for those devices
        words = [w for w in sys.argv[1:] if w == "--small"] + ["--config", args.config]
        words += ["--classes", str(args.classes)]
        words += ["--json", args.json] if args.json else []
        file = str(pathlib.Path(__file__))
        sys.stdout.flush()
        subprocess.run([sys.executable, file, *words, "--only", "devices"], check=True)


if __name__ == "__main__":
    main()
