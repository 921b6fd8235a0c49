"""What does sampling cost beside the network: the loop, guidance, compiling, the process's start?

    python benchmarks/sampling.py [--small] [--steps 18] [--batch 64] [--only loop start …]

Tables, each of ratios within one run:
  loop      a whole sampler beside as many single calls of its denoiser
  guidance  two conditions in one call of twice the batch beside two calls, by batch
  compile   a sampler of 4, 18, 64 steps beside one call of the denoiser
  start     from the start of the process to the first picture of a digits model (random weights),
            with an empty cache of compiled programs and with a full one, beside the imports alone
The network is a small DDPM++ at 16×16×3: a larger one makes every share but the last smaller.
"""

import dataclasses
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import pairs

import edm_jax
from configs import digits
from edm_jax import guidance, randomness, samplers, timesteps
from edm_jax.model import Model
from edm_jax.networks import ddpmpp

SOLVERS = ("euler", "dpmpp_2m", "heun", "unipc", "lms", "ddpm", "dpmpp_2m_sde")
STEPS = (4, 18, 64)
CONFIG = ddpmpp(
    resolution=16, channels=3, label_dim=10, model_channels=32, channel_mult=(1, 2), num_blocks=2,
    attn_resolutions=(8,), label_dropout=0.1,
)  # fmt: skip
SMALL = dataclasses.replace(CONFIG, channel_mult=(1,), num_blocks=1, attn_resolutions=())
CALL = jax.jit(lambda model, x, sigma, labels: model.denoiser(labels)(x, sigma))


def inputs(batch: int):
    """Keys, noise and one-hot labels of seeds 0, 1, …"""
    keys = randomness.sample_keys(range(batch))
    return keys, randomness.normal(keys, (16, 16, 3)), np.eye(10, dtype=np.float32)[:1]


def loop(report: pairs.Report, model: Model, batch: int, steps: int, names) -> None:
    """Times the loop around the denoiser."""
    keys, noise, labels = inputs(batch)
    run = jax.jit(
        lambda model, table, x, keys: samplers.sample(model.denoiser(labels), table, x, keys)
    )
    report.table(f"sampler / calls, batch {batch}", "calls")
    for name in names:
        table = samplers.build(name, timesteps.edm(steps))
        drawn = keys if table.stochastic else None

        def calls():
            x = noise
            for sigma in table.sigma:
                x = CALL(model, x, np.float32(sigma), labels)
            return x

        sampler = lambda: run(model, table, noise, drawn)
        times = pairs.in_turn({"sampler": sampler, "calls": calls}, report.repeats)
        report.row(f"{name}, {steps} steps", times["sampler"], times["calls"], calls=table.nfe)


def guided(report: pairs.Report, model: Model, batches) -> None:
    """Times guidance in one call and in two, beside the denoiser alone."""
    report.table("guided / unguided denoiser", "batch")
    none = np.zeros((1, 10), np.float32)
    for batch in batches:
        _, x, labels = inputs(batch)
        labels, nothing = np.repeat(labels, batch, 0), np.repeat(none, batch, 0)

        def of(together):
            def call(model, x):
                halves = (
                    guidance.in_one_call(model.denoiser, labels, nothing)
                    if together
                    else (model.denoiser(labels), model.denoiser(nothing))
                )
                return guidance.classifier_free(*halves, 2.0)(x, 1.0)

            return jax.jit(call)

        one, two, plain = of(True), of(False), jax.jit(lambda m, x: m.denoiser(labels)(x, 1.0))
        calls = {
            "one call of twice the batch": lambda: one(model, x),
            "two calls": lambda: two(model, x),
            "unguided": lambda: plain(model, x),
        }
        times = pairs.in_turn(calls, report.repeats)
        for name in list(calls)[:2]:
            report.row(name, times[name], times["unguided"], batch=batch)


def compiling(report: pairs.Report, model: Model, steps, *, compilations: int) -> None:
    """Times tracing, lowering and compiling, each time anew."""
    _, x, labels = inputs(64)

    def anew(function):
        # A fresh lambda misses every cache.
        return lambda: jax.jit(lambda *a: function(*a)).lower(model, x).compile() and None

    calls = {"one denoiser call": anew(lambda model, x: model.denoiser(labels)(x, 1.0))}
    for n in steps:
        table = samplers.heun(timesteps.edm(n))
        calls[f"Heun, {n} steps"] = anew(
            lambda model, x, table=table: samplers.sample(model.denoiser(labels), table, x)
        )
    times = pairs.in_turn(calls, compilations, first=0)
    report.table("compiling")
    for name in calls:
        report.row(name, times[name], times["one denoiser call"])


def process(words: list[str], **environment: str) -> pairs.Times:
    """Runs a program of Python once: seconds, and those of its processors."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *words],
        env=os.environ | environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return pairs.Times([wall], [cpu])


def starting(report: pairs.Report, rounds: int) -> None:
    """Times whole processes, up to the first picture on the disk."""
    config = dataclasses.replace(digits.get_config().model, label_dim=10)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        edm_jax.save(Model.init(jax.random.key(0), config), folder / "model")
        checkout = str(pathlib.Path(edm_jax.__file__).parents[1])

        def sample(cache: str, number: int):
            out = str(folder / f"{cache}-{number}")
            words = ["-m", "edm_jax", "sample", "--checkpoint", str(folder / "model")]
            words += ["--seeds", "0", "--class", "0", "--out", out, "--quiet"]
            return [*words, "--compilation-cache", str(folder / cache)]

        process(sample("warm", -1), PYTHONPATH=checkout)  # fills it
        programs = {
            "import jax, flax.linen": lambda i: ["-c", "import jax, flax.linen"],
            "import edm_jax": lambda i: ["-c", "import edm_jax"],
            "first picture, full cache": lambda i: sample("warm", i),
            "first picture, empty cache": lambda i: sample(f"cold{i}", i),
        }
        times = {name: pairs.Times([], []) for name in programs}
        for i in range(rounds):
            for name, words in programs.items():
                found = process(words(i), PYTHONPATH=checkout)
                times[name].wall.extend(found.wall)
                times[name].cpu.extend(found.cpu)
    report.table("from the start of the process", "cpu, s")
    for name in programs:
        spent = float(np.median(times[name].cpu))
        report.row(name, times[name], times["import jax, flax.linen"], spent=spent)


def main() -> None:
    """Prints the tables."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--batch", type=int)
    tables = ("loop", "guidance", "compile", "start")
    parser.add_argument("--only", nargs="+", choices=tables, default=tables)
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    report = pairs.Report("sampling", args)
    model = Model.init(jax.random.key(pairs.SEEDS["weights"]), SMALL if args.small else CONFIG)
    if "loop" in args.only:
        names = SOLVERS[1:3] if args.small else SOLVERS
        loop(report, model, args.batch or (4 if args.small else 64), args.steps, names)
    if "guidance" in args.only:
        guided(report, model, (1, 4) if args.small else (1, 8, 64))
    if "compile" in args.only:
        compiling(
            report, model, STEPS[:2] if args.small else STEPS, compilations=1 if args.small else 5
        )
    if "start" in args.only:
        starting(report, 1 if args.small else 5)
    report.end()


if __name__ == "__main__":
    main()
