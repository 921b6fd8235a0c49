"""Bits per dimension of images under a model, over the devices of this process."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks, likelihood, randomness, timesteps
from edm_jax.generation.choice import check_denoises
from edm_jax.likelihood import bits_per_dim
from edm_jax.likelihood.flow import SOLVERS, Solver
from edm_jax.likelihood.trace import PROBES, Probes
from edm_jax.model import Model
from edm_jax.runtime import processes

# What a model without a sigma_data of its own is taken to have: that of EDM.
SIGMA_DATA = 0.5


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a likelihood depends on beside the model and the image.

    Attributes:
      steps: of the ODE.
      solver: of the ODE.
      timesteps: the grid of both views, a key of `timesteps.GRIDS`. Its lowest level is where the
        density is taken, its highest where the prior is.
      timesteps_options: what that grid takes beside the number of steps.
      probes: of the trace.
      num_probes: random ones of each image.
      elbo_levels: where the variational bound looks, a level drawn in each interval between.
      seed: of all draws; image i draws from `fold_in(key(seed), i)`.
    """

    steps: int = 40
    solver: Solver = "rk4"
    timesteps: str = "edm"
    # Compared, but no part of the hash, which a dictionary has not.
    timesteps_options: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    probes: Probes = "rademacher"
    num_probes: int = 1
    elbo_levels: int = 100
    seed: int = 0


class Scores(NamedTuple):
    """What was found of each image; all but the last in bits per dimension.

    Attributes:
      flow: [n] by the probability flow, of dequantised pixels.
      probe_error: [n] its standard error over probes; 0 for the exact trace, NaN for one probe.
      elbo: [n, elbo_levels + 1] the terms of the variational bound: L_T, each interval's from the
        highest down, L_0 of the discretised decoder.
      round_trip: [n] root mean square error of the pixels, in [-1, 1], encoded and decoded.
    """

    flow: np.ndarray
    probe_error: np.ndarray
    elbo: np.ndarray
    round_trip: np.ndarray

    @property
    def finite(self) -> np.ndarray:
        """[n] whether the flow's and the bound's numbers are neither NaN nor infinite."""
        return np.isfinite(self.flow) & np.isfinite(self.elbo).all(axis=1)

    def rows(self) -> np.ndarray:
        """All numbers of an image in a row, [n, elbo_levels + 4]."""
        return np.column_stack([self.flow, self.probe_error, self.round_trip, self.elbo])

    @classmethod
    def of_rows(cls, rows: np.ndarray) -> "Scores":
        """What `rows` made rows of."""
        flow, probe_error, round_trip = rows[:, :3].T
        return cls(flow, probe_error, rows[:, 3:], round_trip)


def grids(model: Model, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The noise levels of the ODE and of the bound, within those that the model knows.

    Args:
      model: the model.
      settings: as they were asked for.

    Returns:
      ([steps + 1], [elbo_levels]) descending and positive.

    Raises:
      ValueError: a consistency model; a setting that is unknown or out of range.
    """
    check_denoises(model, "have a likelihood")
    checks.one_of("solver", settings.solver, SOLVERS)
    checks.one_of("probes", settings.probes, PROBES)
    for name, least in (("steps", 1), ("num_probes", 1), ("elbo_levels", 2), ("seed", 0)):
        checks.between(name, getattr(settings, name), least)
    if "final" in settings.timesteps_options:
        raise ValueError(
            "timesteps_options must leave out final, since a likelihood's grid ends at its lowest "
            f"level, got {settings.timesteps_options['final']!r}"
        )
    known = model.preconditioner

    def grid(num_levels: int) -> np.ndarray:
        levels = timesteps.build(
            settings.timesteps,
            num_levels,
            bounds=(known.sigma_min, known.sigma_max),
            **settings.timesteps_options,
        )
        return timesteps.rounded(levels, known.round_sigma)[:-1]

    return grid(settings.steps + 1), grid(settings.elbo_levels)


def image_scores(
    model: Model,
    settings: Settings,
    images: jax.Array,
    labels: jax.Array | None,
    indices: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """One batch; pure, jit it.

    Args:
      model: the model.
      settings: all else.
      images: [B, H, W, C] values in 0..255.
      labels: [B, L] one-hot rows; None is no label.
      indices: [B] of the images in their data set.

    Returns:
      The fields of `Scores`.
    """
    levels, elbo_levels = grids(model, settings)
    keys = randomness.fold_in(
        jax.random.key(settings.seed, impl=randomness.IMPLEMENTATION), indices
    )
    for_cells, for_probes, for_bound = randomness.split(keys, 3)
    denoise = model.denoiser(labels)
    sigma_data = model.config.preconditioner_arguments.get("sigma_data", SIGMA_DATA)
    flow = {"solver": settings.solver, "sigma_data": sigma_data}
    d = int(np.prod(images.shape[1:]))

    y = likelihood.dequantize(images, for_cells)
    found = likelihood.log_prob(
        denoise, y, levels, keys=for_probes, probes=settings.probes,
        num_probes=settings.num_probes, **flow,
    )  # fmt: skip
    back = likelihood.decode(denoise, found.latents, levels, **flow)
    terms = likelihood.elbo(
        denoise, jnp.asarray(images, y.dtype) / 127.5 - 1.0, elbo_levels, for_bound,
        variance="continuous", prior_std=sigma_data,
    )  # fmt: skip
    rows = jnp.concatenate([terms.prior[None], terms.steps, terms.decoder[None]])
    return (
        bits_per_dim(found.nats, d),
        found.standard_error / (d * np.log(2.0)),
        bits_per_dim(-rows.T, d, cell=1.0),
        jnp.sqrt(jnp.mean((back - y) ** 2, axis=(1, 2, 3))),
    )


def batches(
    model: Model,
    settings: Settings,
    rows: Callable[[np.ndarray], tuple[Any, Any]],
    indices: np.ndarray,
    *,
    batch_size: int = 64,
) -> Iterator[Scores]:
    """Scores of images in the order of their indices, a batch on every device at a time.

    An image's scores depend on it, its index and the settings alone.

    Args:
      model: the model.
      settings: all else.
      rows: indices -> (uint8 [n, H, W, C], labels [n, L] or None).
      indices: [n] of the images.
      batch_size: images on each device; the last batch is padded.

    Yields:
      The scores of each batch.

    Raises:
      ValueError: a consistency model; a setting that is unknown or out of range.
    """
    grids(model, settings)
    devices = processes.local_device_count()
    step = devices * batch_size
    run = compiled(settings, devices)
    everywhere = processes.replicate_local(model, devices)
    for start in range(0, len(indices), step):
        chosen = indices[start : start + step]
        padded = np.pad(chosen, (0, step - len(chosen)), mode="edge")
        images, labels = rows(padded)
        batch = processes.split_local((images, labels, padded.astype(np.uint32)), devices)
        found = run(everywhere, *batch)
        yield Scores(*(np.asarray(a).reshape(step, *a.shape[2:])[: len(chosen)] for a in found))


@functools.cache
def compiled(settings: Settings, devices: int) -> Callable:
    """`image_scores` over this process's devices; equal settings share one program.

    Args:
      settings: all but the model and its images.
      devices: how many of them, a leading axis of images, labels and indices.
    """
    # Labels may be None, which no axis is mapped of.
    return processes.map_local(
        lambda model, *batch: image_scores(model, settings, *batch), (None, 0, 0, 0), devices
    )


def mean(values: np.ndarray) -> dict[str, float]:
    """The mean over images and its standard error.

    >>> mean(np.array([1.0, 3.0]))
    {'mean': 2.0, 'standard_error': 1.0}

    Args:
      values: [n], n at least 2.
    """
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": float(values.mean()), "standard_error": float(error)}
