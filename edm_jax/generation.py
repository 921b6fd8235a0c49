"""From seeds to images: the sampler over every device, in batches, image i from seed i alone."""

import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness, samplers, schedules
from edm_jax.model import Model
from edm_jax.options import find
from edm_jax.runtime import processes
from edm_jax.samplers import DEFAULT_SOLVER, DEFAULT_STEPS, SOLVERS, Loop, Tableau
from edm_jax.timesteps import GRIDS, build, noise_range, rounded

NOISE, LABEL, PATH = range(3)  # the three independent keys of a seed


class Samples(NamedTuple):
    """A batch of images and what they were made from.

    Attributes:
      seeds: [n] integers.
      labels: [n] class indices; None is "no label".
      images: uint8 [n, H, W, C].
      finite: [n], whether an image is one; False where it held NaN or infinity.
    """

    seeds: np.ndarray
    labels: np.ndarray | None
    images: np.ndarray
    finite: np.ndarray


def sampler_for(
    model: Model,
    num_steps: int = DEFAULT_STEPS,
    *,
    solver: str | None = None,
    timesteps: str = "edm",
    timesteps_options: Mapping[str, Any] | None = None,
    schedule: str | None = None,
    scaling: Literal["none", "vp"] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Tableau | Loop:
    """A sampler by its names, within the noise levels that a model knows.

    Args:
      model: what it is for; a network with a table of levels is asked for these alone.
      num_steps: steps of the grid.
      solver: a key of `samplers.SOLVERS`; None is `samplers.DEFAULT_SOLVER`, and "consistency" for
        a consistency model.
      timesteps: a key of `timesteps.GRIDS`. For a consistency model the grid ends at the level
        that the model maps to.
      timesteps_options: what that grid takes beside the number of steps.
      schedule: a key of `schedules.SCHEDULES`, for solvers that have the option; one of
        `schedules.FROM_RANGE` is fitted to the grid's range. None is the solver's own.
      scaling: s(t): "none", or "vp", 1 / sqrt(1 + sigma(t)^2). None is the schedule's own.
      options: what the solver takes beside its grid.

    Returns:
      The tableau, or the loop of a solver that is none.

    Raises:
      ValueError: an unknown name, with the nearest ones; an option that the solver or the grid
        does not have, or a value of one that is not allowed; a solver that needs what the model
        is not, or more than seeds.
    """
    solver = solver or default_solver(model)
    entry, known = find("solver", solver, SOLVERS), model.preconditioner
    _check_needs(solver, entry.needs, model)
    given, chosen = dict(timesteps_options or {}), dict(options or {})
    bounds = known.sigma_min, known.sigma_max
    if "consistency" in entry.needs:
        end = {"final": "sigma_min", "sigma_min": known.sigma_min}
        taken = find("grid", timesteps, GRIDS).options
        given = {name: value for name, value in end.items() if name in taken} | given
    sigmas = build(timesteps, num_steps, bounds=bounds, **given)
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


def default_solver(model: Model) -> str:
    """The solver that a model is drawn from unless another one is named, a key of `SOLVERS`."""
    return "consistency" if model.config.preconditioner == "consistency" else DEFAULT_SOLVER


def _check_needs(solver: str, needs: frozenset[str], model: Model) -> None:
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
            config.preconditioner != "consistency",
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


def pairs(
    model: Model, seeds: Sequence[int], classes: int | str | Sequence[int] | None = "random"
) -> tuple[np.ndarray, np.ndarray | None]:
    """Every class in `classes` with every seed.

    Args:
      model: decides which classes there are.
      seeds: integers in [0, 2^32).
      classes: a class or several, "all", or "random": one class per seed, drawn from it. None is
        no label; a model without labels takes only None and "random", which mean the same there.

    Returns:
      (seeds [n], labels [n]), class by class; the labels are None where there are none.

    Raises:
      ValueError: a seed out of range; a class that the model does not have.
    """
    known, count = _check_seeds(seeds), model.config.label_dim
    if classes is None or (classes == "random" and not count):
        return known, None
    if not count:
        raise ValueError(f"classes must be None, as the model has no labels, got {classes!r}")
    if classes == "random":
        return known, random_classes(known, count)
    wanted = np.arange(count) if classes == "all" else _check_labels(np.atleast_1d(classes), count)
    return np.tile(known, len(wanted)), np.repeat(wanted, len(known))


def random_classes(seeds: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """A class in [0, count) for each seed, drawn from it."""
    keys = _keys(seeds)[:, LABEL]
    return np.asarray(jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys))


def _check_seeds(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    for seed in seeds:
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise ValueError(f"seeds must be integers in [0, 2**32), got {seed!r}")
    return np.asarray(seeds, np.uint32)


def _check_labels(labels: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    for label in np.asarray(labels).tolist():
        if not isinstance(label, int) or not 0 <= label < count:
            raise ValueError(f"class must be 0 to {count - 1} for this model, got {label!r}")
    return np.asarray(labels, np.int32)


def _keys(seeds: Sequence[int] | np.ndarray | jax.Array) -> jax.Array:
    return jax.vmap(lambda key: jax.random.split(key, 3))(randomness.sample_keys(seeds))


@overload
def draw(
    model: Model,
    sampler: Tableau | Loop,
    seeds: jax.Array,
    labels: jax.Array | None = None,
    *,
    trajectory: Literal[False] = False,
) -> jax.Array: ...


@overload
def draw(
    model: Model,
    sampler: Tableau | Loop,
    seeds: jax.Array,
    labels: jax.Array | None = None,
    *,
    trajectory: Literal[True],
) -> tuple[jax.Array, jax.Array]: ...


def draw(
    model: Model,
    sampler: Tableau | Loop,
    seeds: jax.Array,
    labels: jax.Array | None = None,
    *,
    trajectory: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """One batch as a pure function of its seeds. Jit it, or map it.

    Args:
      model: a model.
      sampler: a tableau, or a loop.
      seeds: [B] integers.
      labels: [B] class indices, of which negative ones are "no label"; None is none at all.
      trajectory: also return the states on the way; of tableaux only.

    Returns:
      Images [B, H, W, C], about in [-1, 1]; with `trajectory` also the states [K + 1, B, H, W, C]
      that the denoiser was evaluated at.
    """
    keys = _keys(seeds)
    noise = randomness.normal(keys[:, NOISE], model.image_shape)
    one_hot = None
    if labels is not None and model.config.label_dim:
        one_hot = jax.nn.one_hot(labels, model.config.label_dim)
    both = isinstance(sampler, Loop) and sampler.variance
    # A loop says by `variance` which of the two it takes.
    denoise: Callable[..., Any] = (
        model.denoiser_with_variance(one_hot) if both else model.denoiser(one_hot)
    )
    path = keys[:, PATH] if sampler.stochastic else None
    if trajectory:
        return samplers.sample(denoise, sampler, noise, path, trajectory=True)
    return samplers.sample(denoise, sampler, noise, path)


def to_uint8(images: jax.Array) -> jax.Array:
    """[-1, 1] -> 0..255, rounded: `floor(clip(127.5 x + 128, 0, 255))`."""
    return jnp.clip(images * 127.5 + 128.0, 0.0, 255.0).astype(jnp.uint8)


def _images(
    model: Model, sampler: Tableau | Loop, seeds: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images = draw(model, sampler, seeds, labels)
    return to_uint8(images), jnp.isfinite(images).all((1, 2, 3))


@functools.cache
def _mapped(devices: int) -> Callable:
    # The tableau is an argument, so all samplers with as many rows and registers share a program.
    return processes.map_local(_images, (None, None, 0, 0), devices)


def _mapped_loop(loop: Loop, devices: int) -> Callable:
    def run(model, _, seeds, labels):
        return _images(model, loop, seeds, labels)

    return processes.map_local(run, (None, None, 0, 0), devices)


def generate(
    model: Model,
    sampler: Tableau | Loop,
    seeds: Sequence[int] | np.ndarray,
    *,
    classes: int | str | Sequence[int] | None = "random",
    labels: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 64,
    devices: int | None = None,
) -> Iterator[Samples]:
    """Samples of every class in `classes` with every seed, over the devices of this process.

    Arguments are checked, and the sampler tried on the shapes of a batch, when it is called.

    Args:
      model: what to sample from.
      sampler: for example `samplers.heun(timesteps.edm(18))`, or `sampler_for(model)`.
      seeds: integers in [0, 2^32); an image depends on its own alone.
      classes: a class or several, "all", or "random": one class per seed, drawn from it. None is
        no label; a model without labels takes only None and "random", which mean the same there.
      labels: [len(seeds)] the class of each seed, in place of `classes`.
      batch_size: images per device and batch. The last batch is padded, so every image goes
        through the same program, whatever the number of devices.
      devices: how many of this process's devices to use; None is all.

    Returns:
      An iterator of samples, class by class.

    Raises:
      ValueError: a seed out of range; a class that the model does not have; `batch_size` or
        `devices` out of range; a sampler that does not go with the model.
    """
    seeds, labels = _with_labels(model, seeds, classes, labels)
    here = processes.local_device_count()
    devices = here if devices is None else devices
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not 1 <= devices <= here:
        raise ValueError(f"devices must be 1 to {here}, those of this process, got {devices}")
    each = [jax.ShapeDtypeStruct((batch_size,), dtype) for dtype in (jnp.uint32, jnp.int32)]
    jax.eval_shape(lambda model, *row: _images(model, sampler, *row), model, *each)
    return _batches(model, sampler, seeds, labels, batch_size, devices)


def _with_labels(model, seeds, classes, labels) -> tuple[np.ndarray, np.ndarray | None]:
    if labels is None:
        return pairs(model, seeds, classes)
    if classes != "random":
        raise ValueError(f"classes must be left out where labels are given, got {classes!r}")
    if len(labels) != len(seeds):
        raise ValueError(f"labels must be as many as seeds, {len(seeds)}, got {len(labels)}")
    return _check_seeds(seeds), _check_labels(labels, model.config.label_dim)


def _batches(
    model: Model,
    sampler: Tableau | Loop,
    seeds: np.ndarray,
    labels: np.ndarray | None,
    batch_size: int,
    devices: int,
) -> Iterator[Samples]:
    if isinstance(sampler, Tableau):
        run, table = _mapped(devices), jax.tree.map(np.float32, sampler)
    else:
        run, table = _mapped_loop(sampler, devices), ()
    model, table = processes.replicate_local((model, table), devices)
    rows = seeds, np.full(len(seeds), -1, np.int32) if labels is None else labels
    step = devices * batch_size
    for start in range(0, len(seeds), step):
        part = [row[start : start + step] for row in rows]
        count = len(part[0])
        padded = [np.pad(row, (0, step - count), mode="edge") for row in part]
        pixels, finite = run(model, table, *processes.split_local(tuple(padded), devices))
        yield Samples(
            part[0],
            None if labels is None else part[1],
            np.asarray(pixels).reshape(-1, *model.image_shape)[:count],
            np.asarray(finite).reshape(-1)[:count],
        )


def paths(
    model: Model,
    tableau: Tableau,
    seeds: Sequence[int] | np.ndarray,
    *,
    classes: int | str | Sequence[int] | None = "random",
    labels: Sequence[int] | np.ndarray | None = None,
    columns: int = 12,
) -> tuple[np.ndarray, np.ndarray]:
    """Denoising paths to look at: states on the way, scaled to the data's range.

    Args:
      model: what to sample from.
      tableau: the sampler.
      seeds: integers in [0, 2^32); all in one batch on one device.
      classes: a class or several, "all", or "random", or None, as in `generate`.
      labels: [len(seeds)] the class of each seed, in place of `classes`.
      columns: at most so many states of each path, evenly spread, the image last.

    Returns:
      (uint8 [n, columns, H, W, C], class by class; the noise levels [columns], 0 for the image).

    Raises:
      ValueError: a sampler that is no tableau; a seed out of range; a class that the model does
        not have.
    """
    if not isinstance(tableau, Tableau):
        raise ValueError(f"tableau must be a Tableau, whose states can be kept, got {tableau!r}")
    seeds, labels = _with_labels(model, seeds, classes, labels)
    run = jax.jit(functools.partial(draw, sampler=tableau, trajectory=True))
    _, states = run(model, seeds=seeds, labels=labels)
    chosen = np.unique(np.linspace(0, tableau.nfe, columns).round().astype(int))
    sigmas = np.append(tableau.sigma, 0.0)[chosen]
    # A state is data plus noise of level sigma; data has a standard deviation of about one half.
    scale = 0.5 / np.sqrt(0.25 + sigmas**2)
    scale[-1] = 1.0
    shown = states[chosen] * scale.reshape(-1, 1, 1, 1, 1)
    return np.asarray(to_uint8(shown)).swapaxes(0, 1), sigmas
