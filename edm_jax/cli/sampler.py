"""What a command line says of a model and of its sampler."""

import argparse
import ast
import importlib.util
import math

from edm_jax import generation, samplers, schedules, timesteps
from edm_jax.model import Model
from edm_jax.samplers import DEFAULT_SOLVER, DEFAULT_STEPS, SOLVERS, Churn, Tableau, ablation
from edm_jax.weights import load, posterior_variance

# Values of --option that are no literals: by name here, or not on a command line at all.
PYTHON_ONLY = ("predictor", "posterior_variance")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--checkpoint and --ema."""
    add = parser.add_argument
    add("--checkpoint", help="a run's folder, a saved model, or an official .pkl")
    add("--ema", metavar="NAME", help="of a run: another average, such as halflife-250")


def load_model(args: argparse.Namespace) -> Model:
    """The model that --checkpoint and --ema name."""
    if not args.ema:
        return load(args.checkpoint)
    from edm_jax.weights.checkpoint import restore_model  # orbax takes seconds to import

    return restore_model(args.checkpoint, ema=args.ema)


def add_sampler_arguments(parser: argparse.ArgumentParser) -> None:
    """The solver, its options, and the grid of noise levels."""
    add = parser.add_argument_group("sampler").add_argument
    add("--steps", type=int, default=DEFAULT_STEPS, help=f"steps ({DEFAULT_STEPS})")
    add("--solver", default=DEFAULT_SOLVER, help=f"see --list-solvers ({DEFAULT_SOLVER})")
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the solver, such as eta=0.5 or order=3; may be repeated",
    )
    add("--discretization", choices=timesteps.GRIDS, default="edm", help="grid of levels (edm)")
    add("--schedule", choices=("edm", "vp", "ve"), default="edm", help="sigma(t) (edm)")
    add("--scaling", choices=("none", "vp"), default="none", help="s(t) (none)")
    add("--sigma-min", type=float, help="lowest noise level (the grid's own)")
    add("--sigma-max", type=float, help="highest noise level (the grid's own)")
    add("--rho", type=float, help="exponent of the grid (its own)")
    add("--s-churn", type=float, default=0.0, help="amount of noise on the way (0)")
    add("--s-min", type=float, default=0.0, help="lowest sigma that gets noise (0)")
    add("--s-max", type=float, default=math.inf, help="highest sigma that gets noise (inf)")
    add("--s-noise", type=float, default=1.0, help="size of that noise (1)")


def make_sampler(args: argparse.Namespace, model: Model) -> Tableau | generation.Program:
    """The sampler that the options describe, within the noise levels that `model` knows.

    Raises:
      ValueError: an option or a value that is not allowed, or a model that the solver is not for.
    """
    if args.steps < 1:
        raise ValueError(f"--steps is {args.steps}; it must be at least 1")
    check_suits(args.solver, model)
    known, options = model.preconditioner, solver_options(args.solver, args.option)
    bounds = known.sigma_min, known.sigma_max
    churn = Churn(args.s_churn, args.s_min, args.s_max, args.s_noise)
    if args.solver in ("heun", "euler"):
        allowed = ("alpha",) if args.solver == "heun" else ()
        for name in options:
            if name not in allowed:
                raise ValueError(
                    f"{args.solver} has no --option {name!r}: "
                    f"{'it has alpha, and ' if allowed else ''}its churn is --s-churn"
                )
        return ablation(
            args.steps,
            solver=args.solver,
            timesteps=args.discretization,
            schedule=args.schedule,
            scaling=args.scaling,
            sigma_min=args.sigma_min,
            sigma_max=args.sigma_max,
            rho=args.rho,
            churn=churn,
            round_sigma=known.round_sigma,
            bounds=bounds,
            **options,
        )
    if (args.schedule, args.scaling, churn) != ("edm", "none", Churn()):
        raise ValueError(
            "--schedule, --scaling and --s-churn are choices of the solvers heun and euler; "
            f"--solver is {args.solver!r}: add --solver heun"
        )
    grid = {"sigma_min": args.sigma_min, "sigma_max": args.sigma_max, "rho": args.rho}
    grid = {name: value for name, value in grid.items() if value is not None}
    if args.solver == "consistency":
        # The function maps to sigma_min: the last step goes there, no evaluation is spent on it.
        levels = timesteps.build(args.discretization, args.steps + 1, bounds=bounds, **grid)[:-1]
        options.setdefault("sigma_min", levels[-1])
    else:
        levels = timesteps.build(args.discretization, args.steps, bounds=bounds, **grid)
        levels = timesteps.rounded(levels, known.round_sigma)
    sampler = samplers.build(args.solver, levels, **options)
    if isinstance(sampler, Tableau):
        return sampler

    def program(model, labels, noise, keys):
        denoise = model.denoiser(labels)
        if sampler.variance:
            denoise = model.denoiser_with_variance(labels)
        return samplers.sample(denoise, sampler, noise, keys)

    return program


def check_suits(solver: str, model: Model) -> None:
    """Raises ValueError where a solver cannot serve a command that samples from `model`."""
    config = model.config
    if solver == "ddim_inversion":
        raise ValueError(
            "ddim_inversion goes from images to noise, and seeds are no images; in Python: "
            "edm_jax.sample(denoise, edm_jax.samplers.ddim_inversion(sigmas), images)"
        )
    if solver == "consistency" and config.preconditioner != "consistency":
        raise ValueError(
            "consistency is for models whose preconditioner is 'consistency', and "
            f"this one's is {config.preconditioner!r}: a denoiser is no consistency function"
        )
    if solver == "improved_ddpm" and not config.predicts_variance:
        raise ValueError(
            "improved_ddpm is for networks that also predict a variance (learned_variance, or "
            "the preconditioner 'iddpm'), which this one does not; ddpm is its fixed form"
        )
    if solver == "adaptive" and importlib.util.find_spec("diffrax") is None:
        raise ValueError("adaptive needs diffrax: pip install 'edm_jax[adaptive]'")


def solver_options(solver: str, words: list[str]) -> dict[str, object]:
    """The options of --option as the solver takes them: names and files become what they stand for.

    Args:
      solver: its name.
      words: as for `parse_options`; `gamma` is a file that `edm-jax gamma` wrote, `schedule` one
        of `schedules.SCHEDULES`.

    Raises:
      ValueError: what the words lack, or have too much.
      OSError: a file that cannot be read.
    """
    options = parse_options(words)
    for name in options:
        if name in PYTHON_ONLY:
            raise ValueError(f"{solver}'s {name} is no value to write; give it in Python")
    analytic = solver == "analytic_dpm" or options.get("variance") == "analytic"
    if analytic and "gamma" not in options:
        raise ValueError(
            f"{solver} needs --option gamma=FILE, the posterior variance on data; make the file "
            "by: python -m edm_jax gamma --checkpoint … --data … --out FILE"
        )
    if analytic:
        options["posterior_variance"] = posterior_variance.load(str(options.pop("gamma")))
    if "schedule" in options:
        name = str(options["schedule"])
        options["schedule"] = schedules.build(name)
    return options


def parse_options(words: list[str]) -> dict[str, object]:
    """Reads NAME=VALUE words; values are Python literals, true or false; anything else is text.

    >>> parse_options(["eta=0.5", "variance=large", "corrector=false"])
    {'eta': 0.5, 'variance': 'large', 'corrector': False}
    """
    options: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--option is {word!r}; it must look like eta=0.5")
        try:
            literal = value.title() if value.lower() in ("true", "false") else value
            options[name] = ast.literal_eval(literal)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def list_solvers() -> str:
    """A table of the solvers: name, order, evaluations a step, stochastic or not, source."""
    rows = [("name", "order", "calls a step", "noise", "source")]
    for name, solver in SOLVERS.items():
        numbers = ("–" if n is None else str(n) for n in (solver.order, solver.nfe_per_step))
        rows.append((name, *numbers, "yes" if solver.stochastic else "no", solver.source))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[4]]) for row in rows
    )
