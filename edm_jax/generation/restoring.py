"""Images from their measurements: draws of the posterior over every device, in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import inverse, randomness, samplers
from edm_jax.generation.batches import to_uint8
from edm_jax.generation.choice import check_denoises
from edm_jax.inverse.operators import Operator
from edm_jax.model import Model
from edm_jax.runtime import processes
from edm_jax.samplers import Loop, Tableau


class Problem(NamedTuple):
    """A measurement y = A(x0) + sigma_y n, and how x0 is drawn given y.

    Attributes:
      operator: A.
      sigma_y: deviation of the noise, in units of images in [-1, 1].
      method: a key of `inverse.METHODS`.
      options: what that method takes beside the measurement.
      sampler: what draws from the method's denoiser; for a method that is a sampler, [N + 1]
        descending noise levels.
      seed: of all noise, in [0, 2^32).
    """

    operator: Operator
    sigma_y: float
    method: str
    options: Mapping[str, Any]
    sampler: Tableau | Loop | np.ndarray
    seed: int = 0


class Restored(NamedTuple):
    """A batch of images that were drawn given measurements.

    Attributes:
      images: uint8 [n, H, W, C].
      finite: [n], whether an image is one; False where it held NaN or infinity.
    """

    images: np.ndarray
    finite: np.ndarray


def measure(problem: Problem, images: jax.Array, places: jax.Array) -> jax.Array:
    """y = A(x0) + sigma_y n, the noise of each image from its place. Pure; jit it.

    Args:
      problem: the measurement.
      images: x0 [B, H, W, C] in [-1, 1].
      places: [B] integers: an image's own number, such as its place in a data set.

    Returns:
      y [B, ...].
    """
    y = problem.operator(images)
    keys = randomness.fold_in(_keys(problem, places), 0)
    return y + problem.sigma_y * randomness.normal(keys, y.shape[1:], dtype=y.dtype)


def draw_given(
    model: Model,
    problem: Problem,
    y: jax.Array,
    places: jax.Array,
    draws: jax.Array,
    *,
    class_labels: jax.Array | None = None,
) -> jax.Array:
    """One batch of draws from p(x0 | y). Pure; jit it.

    Args:
      model: the prior.
      problem: what was measured, and the method.
      y: [B, ...], the measurement of each sample.
      places: [B] integers, those that `measure` was given.
      draws: [B] integers: which draw of its image each sample is.
      class_labels: [B, label_dim] one-hot rows; all zeros, or None, is "no label".

    Returns:
      Images [B, H, W, C], about in [-1, 1].

    Raises:
      ValueError: a method that is not for such a measurement.
    """
    keys = randomness.fold_in(_keys(problem, places), 1 + draws)
    start, path = randomness.split(keys)
    noise = randomness.normal(start, model.image_shape)
    denoise, sampler = _conditioned(model, problem, y, class_labels)
    return samplers.sample(denoise, sampler, noise, path)


def _conditioned(model: Model, problem: Problem, y: Any, class_labels: jax.Array | None) -> Any:
    """The denoiser, or (D, v) where it is asked for, and the sampler."""
    denoise, sampler = inverse.condition(
        problem.method,
        model.denoiser(class_labels),
        problem.operator,
        y,
        problem.sigma_y,
        problem.sampler,
        **problem.options,
    )
    if not (isinstance(sampler, Loop) and sampler.variance):
        return denoise, sampler
    # A denoiser of the posterior has no variance, whatever the network predicts.
    if not (inverse.METHODS[problem.method].samples and model.config.predicts_variance):
        raise ValueError(
            f"sampler must be one that asks for no variance with this network and the method "
            f"{problem.method!r}, got {sampler!r}"
        )
    return model.denoiser_with_variance(class_labels), sampler


def _keys(problem: Problem, places: jax.Array) -> jax.Array:
    """A key of each place; the measurement is 0 of it, and draw k is k + 1."""
    return randomness.fold_in(randomness.sample_keys([problem.seed])[0], places)


def check_problem(model: Model, problem: Problem) -> None:
    """Checks that a method is for a measurement, on the host and on shapes alone.

    Args:
      model: the prior.
      problem: what is measured, and the method.

    Raises:
      ValueError: an operator that does not take such images; a method that is not for such a
        measurement; an option that it does not take, or a value of one that is not allowed; a
        sampler that does not go with it; a model that is no denoiser.
    """
    check_denoises(model, "restore images")
    inverse.check_method(
        problem.method, problem.operator, model.image_shape, problem.sigma_y, **problem.options
    )
    if not 0 <= problem.seed < 2**32:
        raise ValueError(f"seed must lie in [0, 2**32), got {problem.seed}")
    images = jax.ShapeDtypeStruct((1, *model.image_shape), jnp.float32)
    one = jax.ShapeDtypeStruct((1,), jnp.uint32)
    y = jax.eval_shape(lambda x, place: measure(problem, x, place), images, one)
    _conditioned(model, problem, y, None)  # what can be said before anything is traced
    jax.eval_shape(lambda *given: draw_given(given[0], problem, *given[1:]), model, y, one, one)


def restore(
    model: Model,
    problem: Problem,
    images: Callable[[np.ndarray], np.ndarray],
    places: Sequence[int] | np.ndarray,
    draws: Sequence[int] | np.ndarray,
    *,
    labels: np.ndarray | None = None,
    batch_size: int = 64,
) -> Iterator[Restored]:
    """Measures images and draws each given its measurement, over the devices of this process.

    Args:
      model: the prior.
      problem: what is measured, and the method.
      images: places [n] -> float32 [n, H, W, C] in [-1, 1].
      places: [N] the image of each draw; its draws depend on nothing else of the call.
      draws: [N] which draw of it.
      labels: [N, label_dim] one-hot rows; None is "no label".
      batch_size: draws per device and batch. The last batch is padded, so that every draw goes
        through the same program.

    Returns:
      An iterator of batches, in order.

    Raises:
      ValueError: what `check_problem` refuses; a batch size below 1.
    """
    devices = processes.devices_for(batch_size, None, len(places))
    check_problem(model, problem)
    return _batches(model, problem, images, places, draws, labels, batch_size, devices)


def _batches(
    model, problem, images, places, draws, labels, batch_size, devices
) -> Iterator[Restored]:

    def run(model, x, places, draws, labels):
        y = measure(problem, x, places)
        drawn = draw_given(model, problem, y, places, draws, class_labels=labels)
        return to_uint8(drawn), jnp.isfinite(drawn).all((1, 2, 3))

    mapped = processes.map_local(run, (None, 0, 0, 0, 0), devices)
    model = processes.replicate_local(model, devices)
    rows = [np.asarray(places, np.uint32), np.asarray(draws, np.uint32)]
    rows += [] if labels is None else [np.asarray(labels, np.float32)]
    step = devices * batch_size
    for start in range(0, len(rows[0]), step):
        part = [row[start : start + step] for row in rows]
        count = len(part[0])
        part = [row[np.minimum(np.arange(step), count - 1)] for row in part]
        given = [images(part[0].astype(int)), *part, *([None] if labels is None else [])]
        pixels, finite = mapped(model, *processes.split_local(tuple(given), devices))
        yield Restored(
            np.asarray(pixels).reshape(-1, *model.image_shape)[:count],
            np.asarray(finite).reshape(-1)[:count],
        )
