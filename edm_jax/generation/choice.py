"""The sampler of a model, by names, within the noise levels that the model knows."""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from edm_jax import samplers, schedules
from edm_jax.generation.guided import Guided
from edm_jax.model import Model
from edm_jax.options import find
from edm_jax.samplers import DEFAULT_SOLVER, DEFAULT_STEPS, SOLVERS, Loop, Tableau
from edm_jax.timesteps import GRIDS, build, noise_range, rounded
from edm_jax.weights import tuned_samplers
from edm_jax.weights.digest import digest


def sampler_for(
    model: Model | Guided,
    num_steps: int | None = None,
    *,
    solver: str | None = None,
    timesteps: str = "edm",
    timesteps_options: Mapping[str, Any] | None = None,
    schedule: str | None = None,
    scaling: Literal["none", "vp"] | None = None,
    options: Mapping[str, Any] | None = None,
    tuned: str | os.PathLike | None = None,
) -> Tableau | Loop:
    """A sampler by its names, within the noise levels that a model knows.

    Args:
      model: what it is for; a network with a table of levels is asked for these alone.
      num_steps: steps of the grid; None is `samplers.DEFAULT_STEPS`, and 2 for a consistency model.
      solver: a key of `samplers.SOLVERS`; None is `samplers.DEFAULT_SOLVER`, and "consistency" for
        a consistency model.
      timesteps: a key of `timesteps.GRIDS`. For a consistency model the grid ends at the level
        that the model maps to.
      timesteps_options: what that grid takes beside the number of steps.
      schedule: a key of `schedules.SCHEDULES`, for solvers that have the option; one of
        `schedules.FROM_RANGE` is fitted to the grid's range. None is the solver's own.
      scaling: s(t): "none", or "vp", 1 / sqrt(1 + sigma(t)^2). None is the schedule's own.
      options: what the solver takes beside its grid.
      tuned: where the model is from, its run's folder or its file: the sampler of `num_steps` calls
        that `edm-jax tune` wrote beside it, in place of one by names.

    Returns:
      The tableau, or the loop of a solver that is none.

    Raises:
      ValueError: an unknown name, with the nearest ones; an option that the solver or the grid
        does not have, or a value of one that is not allowed; a solver that needs what the model
        is not, or more than seeds; a classifier, or a consistency model and a solver for
        denoisers. With `tuned`: a name or an option beside it, no such file, one of other weights
        or under guidance, or one without a sampler of so many calls.
      OSError: the file of tuned samplers cannot be read.
    """
    if tuned is not None:
        check_denoises(model, "be drawn from by a tuned sampler")
        named = (solver, timesteps_options, schedule, scaling, options)
        if timesteps != "edm" or any(value is not None for value in named):
            raise ValueError(f"tuned must be given without other names and options, got {tuned!r}")
        return _tuned(model, _steps(model, num_steps), tuned)
    solver = solver or default_solver(model)
    entry, known = find("solver", solver, SOLVERS), model.preconditioner
    if "consistency" not in entry.needs:
        check_denoises(model, f"be drawn from by {solver!r}")
    _check_needs(solver, entry.needs, model)
    given, chosen = dict(timesteps_options or {}), dict(options or {})
    bounds = known.sigma_min, known.sigma_max
    if "consistency" in entry.needs:
        end = {"final": "sigma_min", "sigma_min": known.sigma_min}
        taken = find("grid", timesteps, GRIDS).options
        given = {name: value for name, value in end.items() if name in taken} | given
    sigmas = build(timesteps, _steps(model, num_steps), bounds=bounds, **given)
    if "consistency" in entry.needs:
        chosen.setdefault("sigma_min", sigmas[-1])
    if schedule is not None or scaling is not None:
        name, value = ("scaling", scaling) if schedule is None else ("schedule", schedule)
        if "schedule" not in entry.options:
            takers = ", ".join(n for n, s in SOLVERS.items() if "schedule" in s.options)
            raise ValueError(f"{name} must be given to a solver that has one ({takers}), "
                             f"got {value!r} for {solver!r}")  # fmt: skip
        ends = noise_range(timesteps, bounds=bounds, **given)
        chosen["schedule"] = schedules.process(schedule or "edm", scaling=scaling, ends=ends)
    if "round_sigma" in entry.options:
        chosen.setdefault("round_sigma", known.round_sigma)
    else:
        sigmas = rounded(sigmas, known.round_sigma)
    return samplers.build(solver, sigmas, **chosen)


def _tuned(model: Model | Guided, calls: int, checkpoint: str | os.PathLike) -> Tableau:
    path = tuned_samplers.beside(checkpoint)
    file = tuned_samplers.load(path)
    if isinstance(model, Guided) or any(value is not None for value in file.guidance.values()):
        raise ValueError(
            "tuned must be of a model and a file without guidance; with it a sampler is "
            f"edm_jax.weights.tuned_samplers.load({str(path)!r}).samplers[{calls}].tableau"
        )
    if file.weights != digest(model.params):
        raise ValueError(f"tuned must be of this model's weights, got {path} of others")
    if calls not in file.samplers:
        known = ", ".join(map(str, sorted(file.samplers)))
        raise ValueError(f"num_steps must be one of {known}, those tuned in {path}, got {calls}")
    return file.samplers[calls].tableau


def grid_for(
    model: Model,
    num_steps: int | None = None,
    *,
    timesteps: str = "edm",
    timesteps_options: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """A grid of noise levels by its name, of those that a model knows.

    Args:
      model: what it is for.
      num_steps: steps of the grid; None is as for `sampler_for`.
      timesteps: a key of `timesteps.GRIDS`.
      timesteps_options: what that grid takes beside the number of steps.

    Returns:
      [N + 1] descending noise levels, the last may be 0; N is less than `num_steps` where a
      network with a table of levels has fewer of them.

    Raises:
      ValueError: an unknown name; an option that the grid does not have, or a value of one that is
        not allowed; a classifier, or a consistency model.
    """
    check_denoises(model, "be asked along a grid of noise levels")
    known = model.preconditioner
    bounds = known.sigma_min, known.sigma_max
    count = _steps(model, num_steps)
    sigmas = build(timesteps, count, bounds=bounds, **(timesteps_options or {}))
    return rounded(sigmas, known.round_sigma)


def check_denoises(model: Model | Guided, use: str, *, name: str = "model") -> None:
    """Raises ValueError for a model that is no denoiser: a classifier, or a consistency model.

    A consistency model's function looks like a denoiser and is none: it maps to where a path ends,
    not to the mean of what an image may be.

    Args:
      model: any.
      use: what only a denoiser can, such as "have a likelihood", for the message.
      name: of the argument, likewise.
    """
    kind = (
        "a classifier"
        if model.config.classifies
        else "a consistency model, which jumps to the ends of paths"
        if model.config.is_consistency
        else None
    )
    if kind is not None:
        raise ValueError(f"{name} must be a denoiser to {use}, got {kind}")


def default_solver(model: Model | Guided) -> str:
    """The solver that a model is drawn from unless another one is named, a key of `SOLVERS`."""
    return "consistency" if model.config.is_consistency else DEFAULT_SOLVER


def default_steps(model: Model | Guided) -> int:
    """The number of steps that a model is drawn in unless another one is asked for."""
    return 2 if model.config.is_consistency else DEFAULT_STEPS


def _steps(model: Model | Guided, asked: int | None) -> int:
    return default_steps(model) if asked is None else asked


def _check_needs(solver: str, needs: frozenset[str], model: Model | Guided) -> None:
    """Raises ValueError where a solver cannot draw from `model` by seeds alone."""
    config = model.config
    kind = f"the preconditioner {config.preconditioner!r}"
    lacking = {
        "image": (
            True,
            "one that starts from noise; it starts from images, in Python: "
            f"edm_jax.sample(denoise, edm_jax.samplers.{solver}(sigmas), images)",
        ),
        "consistency": (
            not config.is_consistency,
            f"for denoisers; it is for consistency functions, and this model has {kind}",
        ),
        "variance": (
            not config.predicts_variance,
            "for this network; it is for those that also predict a variance (learned_variance, or "
            f"the preconditioner 'iddpm'), and this one, of {kind}, does not",
        ),
        "diffrax": (
            importlib.util.find_spec("diffrax") is None,
            "one whose packages are installed; it needs: pip install 'edm_jax[adaptive]'",
        ),
    }
    for need in sorted(needs & set(lacking)):
        lacks, allowed = lacking[need]
        if lacks:
            raise ValueError(f"solver must be {allowed}, got {solver!r}")
