"""What does this library cost beside what one would write by hand, or take, in JAX?

    python benchmarks/beside.py [--small] [--steps 18] [--batch 16] [--only sampler step]

Tables, each of ratios within one run, of one small DDPM++ at 16×16×3:
  sampler  EDM's deterministic Heun sampler (Karras et al. 2022, algorithm 1), compiled and run:
             edm_jax                    `samplers.sample`: one network in the program
             textbook                   a loop over steps in one program: the network traced three
                                        times (predictor, corrector, last step)
             Python loop, jitted step   a program for a step, called from Python
             diffrax                    `diffrax.Heun` on the same noise levels; it asks the network
                                        once more, at the last one
  step     a training step, compiled and run:
             edm_jax                    `make_train_step`, noise keyed by example
             flax and optax             the loss in ten lines, `optax.adam`, an average
`apart` is how far results are from the first row's; of the training steps the losses differ by
their random draws.
"""

import dataclasses
import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pairs

from edm_jax import objectives, randomness, samplers, timesteps
from edm_jax.model import Model
from edm_jax.networks import ddpmpp
from edm_jax.training import averages, optimizer, state
from edm_jax.training.step import make_train_step

CONFIG = ddpmpp(
    resolution=16, channels=3, model_channels=32, channel_mult=(1, 2), num_blocks=2,
    attn_resolutions=(8,), dropout=0.0,
)  # fmt: skip
SMALL = dataclasses.replace(CONFIG, channel_mult=(1,), num_blocks=1, attn_resolutions=())
SIGMA_DATA = 0.5


def denoiser(model, params):
    """D(x; sigma) as in the paper's eq. 7, by hand."""

    def denoise(x, sigma):
        sigma = jnp.broadcast_to(sigma, x.shape[:1]).reshape(-1, 1, 1, 1)
        total = jnp.sqrt(sigma**2 + SIGMA_DATA**2)
        f = model.network.apply({"params": params}, x / total, jnp.log(sigma).reshape(-1) / 4)
        return (SIGMA_DATA / total) ** 2 * x + sigma * SIGMA_DATA / total * f

    return denoise


def slope(model, params, x, sigma):
    """dx / dsigma."""
    return (x - denoiser(model, params)(x, sigma)) / sigma


def heun_step(model, params, x, now, then):
    """One step of algorithm 1 that does not end at 0."""
    d = slope(model, params, x, now)
    moved = x + (then - now) * d
    return x + (then - now) * (d + slope(model, params, moved, then)) / 2


def textbook(model, sigmas):
    """A loop in one program."""

    def run(params, noise):
        def body(i, x):
            return heun_step(model, params, x, sigmas[i], sigmas[i + 1])

        x = jax.lax.fori_loop(0, len(sigmas) - 2, body, noise * sigmas[0])
        return denoiser(model, params)(x, sigmas[-2])

    return run


def by_diffrax(model, sigmas):
    """Its solver of ordinary differential equations, at fixed steps."""

    def run(params, noise):
        term = diffrax.ODETerm(lambda sigma, x, _: slope(model, params, x, sigma))
        found = diffrax.diffeqsolve(
            term, diffrax.Heun(), sigmas[0], sigmas[-2], None, noise * sigmas[0],
            stepsize_controller=diffrax.StepTo(sigmas[:-1]),
            adjoint=diffrax.DirectAdjoint(), max_steps=len(sigmas),
        )  # fmt: skip
        return denoiser(model, params)(found.ys[-1], sigmas[-2])

    return run


def sampler(
    report: pairs.Report, model: Model, steps: int, batch: int, *, compilations: int
) -> None:
    """Compiles and runs each sampler, in turn."""
    grid = timesteps.edm(steps)
    sigmas, noise = (
        jnp.asarray(grid, jnp.float32),
        randomness.normal(randomness.sample_keys(range(batch)), model.image_shape),
    )
    table = samplers.heun(grid)
    ours = lambda params, x: samplers.sample(model.replace(params=params).denoiser(), table, x)
    single = functools.partial(heun_step, model)
    last = lambda params, x, sigma: denoiser(model, params)(x, sigma)
    whole = {"edm_jax": ours, "textbook": textbook(model, sigmas)}
    whole["diffrax"] = by_diffrax(model, sigmas)
    fresh = lambda f, *a: jax.jit(lambda *args: f(*args)).lower(*a).compile()
    shapes = (model.params, noise)

    compiled = {}

    def make(name):
        def call():
            if name in whole:
                compiled[name] = fresh(whole[name], *shapes)
            else:
                compiled[name] = (
                    fresh(single, *shapes, sigmas[0], sigmas[1]),
                    fresh(last, *shapes, sigmas[0]),
                )

        return call

    by_python = "Python loop, jitted step"
    names = ("edm_jax", "textbook", by_python, "diffrax")
    times = pairs.in_turn({name: make(name) for name in names}, compilations, first=0)
    report.table(f"compiling, Heun, {steps} steps")
    for name in names:
        report.row(name, times[name], times["edm_jax"])

    def python_loop():
        step, end = compiled[by_python]
        x = noise * sigmas[0]
        for i in range(steps - 1):
            x = step(model.params, x, sigmas[i], sigmas[i + 1])
        return end(model.params, x, sigmas[-2])

    runs = {n: lambda n=n: compiled[n](*shapes) for n in names if n != by_python}
    runs[by_python] = python_loop
    times = pairs.in_turn(runs, report.repeats)
    report.table(f"running, Heun, {steps} steps, batch {batch}", "apart")
    result = runs["edm_jax"]()
    for name in names:
        apart = float(jnp.abs(runs[name]() - result).max())
        report.row(name, times[name], times["edm_jax"], apart=apart)


def plain_step(model, schedule, halflife_share):
    """What a tutorial would write: one key for the batch, Adam, an average."""
    adam = optax.adam(schedule)

    def loss(params, y, key):
        of_sigma, of_noise = jax.random.split(key)
        sigma = jnp.exp(-1.2 + 1.2 * jax.random.normal(of_sigma, y.shape[:1]))
        noise = sigma.reshape(-1, 1, 1, 1) * jax.random.normal(of_noise, y.shape)
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        error = jnp.square(denoiser(model, params)(y + noise, sigma) - y)
        return jnp.mean(weight.reshape(-1, 1, 1, 1) * error)

    def step(now, batch, key):
        params, average, opt_state, count = now
        y = batch["images"].astype(jnp.float32) / 127.5 - 1
        value, grads = jax.value_and_grad(loss)(params, y, jax.random.fold_in(key, count))
        updates, opt_state = adam.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        average = optax.incremental_update(params, average, halflife_share)
        return (params, average, opt_state, count + 1), {"loss": value}

    copy = lambda tree: jax.tree.map(jnp.copy, tree)
    start = lambda params: (copy(params), copy(params), adam.init(params), jnp.zeros((), jnp.int32))
    return step, start


def step(report: pairs.Report, model: Model, batch: int, *, compilations: int) -> None:
    """Compiles and runs each training step, in turn, on a state that it is given to keep."""
    schedule = optimizer.learning_rate(1e-3, 0, batch)
    objective, adam = objectives.build("edm", model), optimizer.adam(schedule)
    average = averages.Averages(averages.by_halflife(batch, 1e5))
    ours = make_train_step(model, objective, adam, average)
    theirs, start = plain_step(model, schedule, 1e-3)
    copied = jax.tree.map(jnp.copy, model.params)
    states = {
        "edm_jax": state.create(copied, objective, adam),
        "flax and optax": start(model.params),
    }
    steps = {"edm_jax": ours, "flax and optax": theirs}
    rng = np.random.default_rng(pairs.SEEDS["inputs"])
    images = rng.integers(0, 256, (batch, *model.image_shape), np.uint8)
    rows = {"images": jnp.asarray(images), "labels": jnp.zeros((batch, 0))}
    key, compiled = jax.random.key(0), {}

    def make(name):
        def call():
            function = jax.jit(lambda *args: steps[name](*args), donate_argnums=0)
            compiled[name] = function.lower(states[name], rows, key).compile()

        return call

    times = pairs.in_turn({n: make(n) for n in steps}, compilations, first=0)
    report.table("compiling, training step")
    for name in steps:
        report.row(name, times[name], times["edm_jax"])

    def run(name):
        def call():
            states[name], metrics = compiled[name](states[name], rows, key)
            return metrics["loss"]

        return call

    times = pairs.in_turn({n: run(n) for n in steps}, report.repeats)
    report.table(f"running, training step, batch {batch}", "MiB")
    for name in steps:
        memory = compiled[name].memory_analysis().temp_size_in_bytes / 2**20
        report.row(name, times[name], times["edm_jax"], MiB=memory)


def main() -> None:
    """Prints the tables."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--batch", type=int)
    parser.add_argument(
        "--only", nargs="+", choices=("sampler", "step"), default=("sampler", "step")
    )
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    report = pairs.Report("beside", args)
    batch = args.batch or (2 if args.small else 16)
    compilations = 1 if args.small else 3
    config = SMALL if args.small else CONFIG
    model = Model.init(jax.random.key(pairs.SEEDS["weights"]), config)
    if "sampler" in args.only:
        sampler(report, model, args.steps, batch, compilations=compilations)
    if "step" in args.only:
        step(report, model, batch, compilations=compilations)
    report.end()


if __name__ == "__main__":
    main()
