"""What is a training step made of, and what do its options cost in time and in memory?

    python benchmarks/training_step.py [--small] [--config configs/cifar10_small.py] [--batch 32]
        [--devices 2] [--augment 0.12] [--only parts options memory]

Tables, each of ratios within one run, on random images (numpy's default_rng of the inputs' seed):
  parts    the loss alone, with its gradient, the optimizer and the averages, augmentation, a batch
           from memory put onto the device; each beside the whole step
  options  rematerialisation, microbatches, bfloat16, several steps a call (per step), and, over
           --devices, both engines and sharded parameters; beside the step without them. `MiB` is
           what the compiler reserves within the step, `held` the state and the batch, per device
  memory   activations of the gradient of DDPM++, NCSN++ and ADM by type, with and without
           rematerialisation; compiled only. XLA for CPUs undoes it in jax 0.10 (the ratios are then
           near 1) and honours it from 0.11 on
On a CPU the devices are simulated: their times say nothing, their memory does.
"""

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pairs

from edm_jax import augment, networks
from edm_jax.cli.train import load_config
from edm_jax.data import loader
from edm_jax.data.archive import Dataset
from edm_jax.model import Model, init_params
from edm_jax.runtime import engines
from edm_jax.training import averages, optimizer
from edm_jax.training.assemble import assemble
from edm_jax.training.calls import in_one_call
from edm_jax.training.examples import example_keys, prepare

SMALL = dict(model_channels=16, channel_mult=(1,), num_blocks=1, attn_resolutions=())
NETWORKS = ("ddpmpp", "ncsnpp", "adm")
TABLES = ("parts", "options", "memory")


def data(config) -> Dataset:
    """Random images of the configuration's size, of ten classes."""
    rng = np.random.default_rng(pairs.SEEDS["inputs"])
    side, count = config.model.resolution, 4 * config.batch_size
    images = rng.integers(0, 256, (count, side, side, config.model.channels), np.uint8)
    return Dataset(images, rng.integers(0, 10, count).astype(np.int32), "random")


def parts_of(config, engine):
    """The run's parts, for those images."""
    dataset = data(config)
    sizes = {name: getattr(dataset, name) for name in ("resolution", "channels", "label_dim")}
    return dataset, assemble(config, engine, **sizes)


def split(report: pairs.Report, config) -> None:
    """Times what a step does, one after the other, and the whole."""
    engine = engines.engine("jit", devices=1)
    dataset, run = parts_of(config, engine)
    state, key, size = engine.init(run.initial), engine.key(0), config.batch_size
    make = lambda: engine.put(loader.batch(dataset, 0, 0, size))
    rows = make()

    turn = functools.partial(augment.augment, settings=augment.edm(config.augment or 0.12))
    prepared = prepare(turn if config.augment else None)
    objective = config.loss.build(run.model)

    @jax.jit
    def draw(state, batch):
        keys = example_keys(key, state.step, size)
        return objective.draw(state.objective, keys[:, :2], *prepared(batch, keys[:, 2:]))

    def loss(params, state, examples):
        losses = objective.loss(run.model.replace(params=params), state.objective, examples)
        return losses.minimised.mean()

    adam = optimizer.adam(run.schedule)
    share = averages.by_halflife(size, config.ema_halflife_kimg * 1e3)

    @jax.jit
    def update(state, grads):
        trained = (state.params, state.objective.trained)
        updates, opt_state = adam.update(grads, state.opt_state, trained)
        params = jax.tree.map(jnp.add, trained, updates)[0]
        return params, averages.update(state.ema, params, share(state.step)), opt_state

    forward, backward = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
    examples = draw(state, rows)
    grads = (backward(state.params, state, examples)[1], state.objective.trained)
    kept = [engine.init(run.initial)]
    step = engine.compile(run.step, jax.eval_shape(run.initial))

    def whole():
        kept[0], metrics = step(kept[0], rows, key)
        return metrics["loss"]

    calls = {
        "the whole step": whole,
        "loss": lambda: forward(state.params, state, examples),
        "loss and gradient": lambda: backward(state.params, state, examples),
        "optimizer and averages": lambda: update(state, grads),
        "draws, without augmentation": lambda: draw(state, rows),
        "a batch from memory, on the device": make,
    }
    if config.augment:
        keys = example_keys(key, state.step, size)[:, 2]
        images = rows["images"].astype(jnp.float32) / 127.5 - 1
        turned = jax.jit(turn)
        calls["draws, with augmentation"] = calls.pop("draws, without augmentation")
        calls["augmentation"] = lambda: turned(keys, images)
    times = pairs.in_turn(calls, report.repeats)
    report.table(f"parts / step, batch {size}", "images/s")
    for name in calls:
        base = times["the whole step"]
        report.row(name, times[name], base, **{"images/s": size / times[name].median})


def options(report: pairs.Report, config, devices: int) -> None:
    """Times whole steps with one option each."""
    size = config.batch_size
    model = lambda **changes: {"model": dataclasses.replace(config.model, **changes)}
    cases = {
        "as it is": ({}, "jit", 1, False),
        "remat": (model(remat=True), "jit", 1, False),
        "microbatches: 4": ({"microbatch": size // 4}, "jit", 1, False),
        "bfloat16": (model(dtype="bfloat16"), "jit", 1, False),
        "steps_per_call: 4": ({"steps_per_call": 4}, "jit", 1, False),
    }
    if devices > 1:
        cases[f"pmap, {devices} devices"] = ({}, "pmap", devices, False)
        cases[f"jit, {devices} devices"] = ({}, "jit", devices, False)
        cases[f"fsdp, {devices} devices"] = ({}, "jit", devices, True)
    calls, sizes, steps = {}, {}, {}
    for name, (changes, kind, count, fsdp) in cases.items():
        changed = dataclasses.replace(config, **changes)
        engine = engines.engine(kind, fsdp=fsdp, devices=count)
        dataset, run = parts_of(changed, engine)
        together = in_one_call(run.step)
        program = engine.compile(together, jax.eval_shape(run.initial))
        rows = engine.put(loader.batch(dataset, 0, 0, size))
        batches = (rows,) * changed.steps_per_call
        kept, key = [engine.init(run.initial)], engine.key(0)
        program = program.lower(kept[0], batches, key).compile()
        found = program.memory_analysis()
        sizes[name] = (found.temp_size_in_bytes, found.argument_size_in_bytes)
        steps[name] = changed.steps_per_call

        def call(kept=kept, program=program, batches=batches, key=key):
            kept[0], metrics = program(kept[0], batches, key)
            return metrics["loss"]

        calls[name] = call
    times = pairs.in_turn(calls, report.repeats)
    report.table(f"step / step as it is, batch {size}", "MiB", "held, MiB")
    base = times["as it is"]
    for name in cases:
        per_step = pairs.Times(*([t / steps[name] for t in part] for part in times[name]))
        inside, held = (n / 2**20 for n in sizes[name])
        report.row(name, per_step, base, **{"MiB": inside, "held, MiB": held})


def activations(report: pairs.Report, batch: int, small: bool) -> None:
    """Compiles gradients and asks the compiler."""
    report.numbers("activations", "MiB", "ratio")
    settings = SMALL if small else dict(model_channels=64, channel_mult=(1, 2), num_blocks=2)
    for name in NETWORKS[:1] if small else NETWORKS:
        for dtype in ("float32", "bfloat16"):
            stored = None
            for remat in (False, True):
                config = getattr(networks, name)(
                    resolution=32, dtype=dtype, remat=remat, **settings
                )
                x = jax.ShapeDtypeStruct((batch, 32, 32, 3), jnp.float32)
                params = jax.eval_shape(lambda c=config: init_params(jax.random.key(0), c))
                keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))

                def loss(params, x, keys, config=config):
                    network = Model.build(config, params).prediction(dropout_keys=keys)
                    return jnp.mean(jnp.square(network(x, jnp.ones(batch)) - x))

                program = jax.jit(jax.grad(loss)).lower(params, x, keys).compile()
                size = program.memory_analysis().temp_size_in_bytes / 2**20
                stored = stored or size
                words = f"{name}, {dtype}" + (", remat" if remat else "")
                report.number(words, MiB=size, ratio=size / stored)


def main() -> None:
    """Prints the tables."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--config", default="configs/cifar10_small.py")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--devices", type=int, default=2, help="simulated, on a CPU (2)")
    parser.add_argument("--augment", type=float, default=0.12)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES)
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={args.devices}"
    )
    config = load_config(args.config)
    config.batch_size = args.batch or (8 if args.small else config.batch_size)
    config.augment = args.augment
    if args.small:
        config.model = dataclasses.replace(config.model, resolution=16, **SMALL)
    report = pairs.Report("training_step", args)
    if "parts" in args.only:
        split(report, config)
    if "options" in args.only:
        options(report, config, min(args.devices, jax.device_count()))
    if "memory" in args.only:
        activations(report, 8, args.small)
    report.end()


if __name__ == "__main__":
    main()
