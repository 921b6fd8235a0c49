"""Which solver and which grid are best at how many network evaluations?

    python benchmarks/solvers.py [--out docs/solvers.png] [--nfe 6,8,10,...] [--samples 1024]
        [--solvers heun,unipc] [--grids edm,exponential] [--checkpoint RUN --data digits]

Without --checkpoint the denoiser is known in closed form: the mixture of 1,797 Gaussians of
deviation 0.1, one around each of the embedded handwritten digits. With it, the network of a run is
the denoiser, and --data names the data it was trained on. Every solver gets the largest grid that
stays within each budget of evaluations.

Printed, and drawn with --out (needs matplotlib, the extra `plot`):
  flow        root mean square distance, per pixel, to the exact flow of the ODE from the same
              noise: what a deterministic solver is meant to compute
  frechet     distance of the samples' mean and covariance, in pixels, from the data's: also means
              something for stochastic ones
  recognised  with a network that knows classes: per cent of its samples that the three nearest
              images of the data say are of the class asked for (printed only)
The line `exact` is what as many samples of the exact flow have, the floor of the second.
"""

import argparse
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import edm_jax
from edm_jax import randomness, samplers, timesteps
from edm_jax.data import archive
from edm_jax.samplers import DEFAULT_SOLVER, analytic

BUDGETS = (6, 8, 10, 12, 16, 20, 28, 40, 60, 80)
STD = 0.1  # of each component of the mixture
REGISTERS = 5  # all tableaux are padded to it: one program per number of evaluations
REFERENCE = 200  # steps of Heun's method for the exact flow

# name in the picture: (solver, options, colour by family)
DETERMINISTIC = {
    "euler, ddim": ("euler", {}, "0.55"),
    "heun": ("heun", {}, "tab:blue"),
    "dpm_2": ("dpm_2", {}, "tab:cyan"),
    "dpm_solver_3": ("dpm_solver_3", {}, "tab:cyan"),
    "dpmpp_2s": ("dpmpp_2s", {}, "tab:orange"),
    "dpmpp_2m": ("dpmpp_2m", {}, "tab:orange"),
    "dpmpp_3m": ("dpmpp_3m", {}, "tab:orange"),
    "dpmpp_3m_third_order": ("dpmpp_3m_third_order", {}, "tab:orange"),
    "lms": ("lms", {}, "tab:green"),
    "ipndm": ("ipndm", {}, "tab:green"),
    "plms": ("plms", {}, "tab:green"),
    "pndm": ("pndm", {}, "tab:green"),
    "deis": ("deis", {}, "tab:olive"),
    "unipc": ("unipc", {}, "tab:red"),
    "unipc, order 3": ("unipc", {"order": 3}, "tab:red"),
    "sa_solver, tau 0": (
        "sa_solver",
        {"tau": 0.0, "predictor_order": 3, "corrector_order": 4},
        "tab:purple",
    ),
}
STOCHASTIC = {
    "ddpm, ancestral": ("ddpm", {}, "0.55"),
    "ddpm, large": ("ddpm", {"variance": "large"}, "0.55"),
    "analytic_dpm": ("analytic_dpm", {}, "tab:pink"),
    "reverse_diffusion": ("reverse_diffusion", {}, "0.3"),
    "heun, churn": ("heun", {"churn": samplers.Churn(10, 0.05, 10.0, 1.0)}, "tab:blue"),
    "dpm_2_ancestral": ("dpm_2_ancestral", {}, "tab:cyan"),
    "dpmpp_2s_ancestral": ("dpmpp_2s_ancestral", {}, "tab:orange"),
    "dpmpp_sde": ("dpmpp_sde", {}, "tab:brown"),
    "dpmpp_2m_sde": ("dpmpp_2m_sde", {}, "tab:olive"),
    "dpmpp_3m_sde": ("dpmpp_3m_sde", {}, "tab:green"),
    "sa_solver": ("sa_solver", {}, "tab:purple"),
    "restart": ("restart", {}, "tab:red"),
}
GRIDS = {
    "edm": timesteps.edm,
    "edm, rho 3": functools.partial(timesteps.edm, rho=3.0),
    "exponential": timesteps.exponential,
    "vp": functools.partial(timesteps.vp, sigma_min=0.002, sigma_max=80.0),
    "iddpm": timesteps.iddpm,
    "ddpm, trailing": functools.partial(timesteps.ddpm, spacing="trailing"),
    "tangent, 0.5": functools.partial(timesteps.tangent, sigma_min=0.002),
    "tangent, 5": functools.partial(timesteps.tangent, sigma_min=0.002, sigma_data=5.0),
}
GRID_SOLVERS = ("ipndm", "unipc", "heun")
MARKERS = "osv^D<>PX*ph"


def scaled(data):
    """Images in [-1, 1], float64 [N, pixels]."""
    return data.images.reshape(len(data.images), -1) / 127.5 - 1


def of_mixture(count):
    """Measures for the ideal denoiser of the digits, each a Gaussian of deviation STD."""
    images = scaled(archive.load("digits"))
    y = jnp.asarray(images, jnp.float32)

    def denoise(x, sigma):
        flat, v = x.reshape(len(x), -1), sigma**2 + STD**2
        product = jnp.matmul(flat, y.T, precision="highest")
        share = jax.nn.softmax((product - 0.5 * (y * y).sum(1)) / v)
        nearest = jnp.matmul(share, y, precision="highest")
        return ((STD**2 * flat + sigma**2 * nearest) / v).reshape(x.shape)

    moments = images.mean(0), np.cov(images.T, bias=True) + STD**2 * np.eye(64)
    chosen = np.resize(images, (count, 64))
    examples = chosen + STD * np.random.default_rng(0).standard_normal(chosen.shape)
    return Measure(denoise, examples.reshape(count, 8, 8, 1).astype(np.float32), moments)


def of_checkpoint(path, data, count):
    """Measures for the denoiser of a run, conditioned on every class in turn if it has classes."""
    model, data = edm_jax.load(path), archive.load(data)
    images, classes = scaled(data), model.config.label_dim
    if not classes:
        chosen = np.resize(images, (count, images.shape[1]))
        examples = chosen.reshape(count, *model.image_shape).astype(np.float32)
        return Measure(model.denoiser(), examples, spread(images))
    asked = np.arange(count) % classes
    of_class = [np.flatnonzero(data.targets == c) for c in range(classes)]
    rows = [of_class[c][i // classes % len(of_class[c])] for i, c in enumerate(asked)]
    examples = images[rows].reshape(count, *model.image_shape).astype(np.float32)
    recognise = recogniser(images, data.targets, classes)
    return Measure(model.denoiser(jnp.eye(classes)[asked]), examples, spread(images), recognise)


def recogniser(images, targets, classes):
    """samples -> per cent of them whose three nearest images are, by majority, of their class."""
    wanted = np.eye(classes)[targets]

    def recognise(samples):
        flat = samples.reshape(len(samples), -1)
        distance = (images**2).sum(1) - 2 * flat @ images.T
        votes = wanted[np.argsort(distance, 1)[:, :3]].sum(1)
        return 100 * float((votes.argmax(1) == np.arange(len(samples)) % classes).mean())

    return recognise


def fit(make, budget):
    """The sampler of the most steps within the budget; None if there is none."""
    best = None
    for steps in range(2, budget + 1):
        try:
            tableau = make(steps)
        except ValueError:
            continue  # too few steps for it
        if tableau.nfe > budget:
            break
        best = tableau
    return best


def spread(samples):
    flat = np.asarray(samples, np.float64).reshape(len(samples), -1)
    return flat.mean(0), np.cov(flat.T, bias=True)


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def frechet(one, other):
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), square-rooted."""
    half = root(one[1])
    cross = np.trace(root(half @ other[1] @ half))
    squared = ((one[0] - other[0]) ** 2).sum() + np.trace(one[1] + other[1]) - 2 * cross
    return float(np.sqrt(max(squared, 0.0)))


class Measure:
    """Runs tableaux from one batch of noise and compares their results with the truth."""

    def __init__(self, denoise, examples, moments, recognise=lambda samples: math.nan):
        self.keys = randomness.sample_keys(range(len(examples)))
        self.noise = randomness.normal(randomness.fold_in(self.keys, 2**20), examples.shape[1:])
        self.run = jax.jit(lambda table, noise, keys: samplers.sample(denoise, table, noise, keys))
        self.flow = self._sample(samplers.heun(timesteps.edm(REFERENCE)), self.noise)
        self.moments, self.recognise = moments, recognise
        self.variance = analytic.estimate(
            denoise, [examples], timesteps.exponential(39, final="sigma_min"), jax.random.key(0)
        )
        self.floor = frechet(spread(self.flow), moments)

    def _sample(self, tableau, noise):
        return np.asarray(self.run(samplers.pad(tableau, REGISTERS), noise, self.keys))

    def __call__(self, tableau):
        """(distance to the flow, Frechet distance, per cent recognised)."""
        result = self._sample(tableau, self.noise)
        distance = float(np.sqrt(((result - self.flow) ** 2).mean()))
        return distance, frechet(spread(result), self.moments), self.recognise(result)


def sweep(measure, entries, budgets):
    """{label: [(evaluations, flow, frechet, recognised)]} for makers of tableaux by steps."""
    results = {}
    for label, make in entries.items():
        results[label] = []
        for budget in budgets:
            tableau = fit(make, budget)
            if tableau is not None:
                results[label].append((tableau.nfe, *measure(tableau)))
    return results


def show(title, results, budgets, column):
    print(f"\n{title}\n{'':24}" + "".join(f"{budget:>9}" for budget in budgets))
    for label, rows in results.items():
        cells = {}
        for budget in budgets:
            within = [row for row in rows if row[0] <= budget]
            cells[budget] = f"{within[-1][column]:9.4f}" if within else " " * 9
        print(f"{label:24}" + "".join(cells.values()), flush=True)


def draw(path, panels, floor):
    """Error against evaluations, a panel for each question."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit("--out needs matplotlib: pip install 'edm_jax[plot]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(6 * len(panels), 6.5))
    for axis, (title, results, column, colours) in zip(axes, panels):
        for i, (label, rows) in enumerate(results.items()):
            rows = sorted(set(rows))
            axis.plot(
                [row[0] for row in rows],
                [row[column] for row in rows],
                color=colours.get(label),
                marker=MARKERS[i % len(MARKERS)],
                markersize=4,
                linewidth=2.5 if label in (DEFAULT_SOLVER, f"{DEFAULT_SOLVER}: edm") else 1.0,
                label=label,
            )
        if column == 2:
            axis.axhline(floor, color="k", linestyle=":", linewidth=1, label="exact samples")
        axis.set(xscale="log", yscale="log", xlabel="network evaluations", title=title)
        if column == 1:
            lowest = min(row[1] for rows in results.values() for row in rows)
            axis.set_ylim(0.5 * lowest, 2.0)
        else:
            levels = [n for n in (0.3, 0.4, 0.6, 1, 2, 4) if n > floor]
            axis.set_yticks(levels, [str(n) for n in levels])
            axis.set_ylim(0.95 * floor, 12 * floor)
        highest = max(row[0] for rows in results.values() for row in rows)
        ticks = [n for n in (6, 10, 20, 40, 80) if n <= 1.15 * highest]
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.set_xlim(5.5, 1.1 * highest)
        axis.minorticks_off()
        axis.grid(True, which="major", alpha=0.25)
        axis.legend(fontsize=7, ncols=2, loc="lower left" if column == 1 else "upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    with Image.open(path) as image:  # lines and text need no more colours, and a third of the bytes
        image.convert("RGB").quantize(256).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", help="of a network to use as the denoiser")
    parser.add_argument("--data", default="digits", help="what it was trained on (digits)")
    parser.add_argument("--out", help="a picture, such as solvers.png")
    parser.add_argument("--nfe", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--solvers", default="", help="only these names of the registry")
    parser.add_argument("--grids", default="", help="only these names of the table above")
    args = parser.parse_args()
    budgets = [int(word) for word in args.nfe.split(",")]

    if args.checkpoint:
        measure = of_checkpoint(args.checkpoint, args.data, args.samples)
    else:
        measure = of_mixture(args.samples)
    recognised = measure.recognise(measure.flow)
    print(
        f"{args.samples} samples; exact: frechet {measure.floor:.4f}, recognised {recognised:.1f}"
    )

    chosen = set(args.solvers.split(",")) - {""}
    wanted = set(args.grids.split(",")) - {""}
    entries, colours = {}, {}
    for label, (name, options, colour) in (DETERMINISTIC | STOCHASTIC).items():
        if not chosen or name in chosen:
            if name == "analytic_dpm":
                options = {"posterior_variance": measure.variance}
            make = functools.partial(samplers.build, name, **options)
            entries[label] = lambda steps, make=make: make(timesteps.edm(steps))
            colours[label] = colour
    results = sweep(measure, entries, budgets)
    flows = {label: rows for label, rows in results.items() if label in DETERMINISTIC}
    # Beside the stochastic ones, three of the others to compare them with.
    beside = (*STOCHASTIC, "heun", "unipc", "ipndm")
    panels = [
        ("distance to the exact flow, edm grid", flows, 1, colours),
        (
            "Fréchet distance of pixels, edm grid",
            {label: rows for label, rows in results.items() if label in beside},
            2,
            colours,
        ),
    ]
    show(panels[0][0], flows, budgets, 1)
    show(panels[1][0], results, budgets, 2)
    if args.checkpoint:
        show("recognised, edm grid", results, budgets, 3)

    entries = {}
    for solver in GRID_SOLVERS:
        for label, grid in GRIDS.items():
            if not wanted or label in wanted:
                entries[f"{solver}: {label}"] = lambda steps, solver=solver, grid=grid: (
                    samplers.build(solver, grid(steps))
                )
    results = sweep(measure, entries, budgets)
    show("distance to the exact flow, by grid", results, budgets, 1)
    show("Fréchet distance of pixels, by grid", results, budgets, 2)
    for solver in GRID_SOLVERS[:1]:
        of_one = {k: rows for k, rows in results.items() if k.startswith(solver)}
        panels.append((f"distance to the exact flow, grids of {solver}", of_one, 1, {}))
    if args.out:
        draw(args.out, panels, measure.floor)
        print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
