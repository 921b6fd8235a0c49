"""From seeds to images: the sampler over every device, in batches, image i from seed i alone."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness
from edm_jax.model import Model
from edm_jax.runtime import processes
from edm_jax.samplers import Tableau, sample

# What is no tableau: (model, one-hot labels or None, noise [B, ...], keys [B]) -> images.
Program = Callable[[Model, jax.Array | None, jax.Array, jax.Array], jax.Array]

NOISE, LABEL, PATH = range(3)  # the three independent keys of a seed


class Request(NamedTuple):
    """One image to make.

    Attributes:
      seed: decides the noise, in [0, 2^32).
      label: class index; None is "no label".
    """

    seed: int
    label: int | None = None


class Samples(NamedTuple):
    """A batch of images and what they were made from.

    Attributes:
      seeds: [n] integers.
      labels: [n] class indices; None is "no label".
      images: uint8 [n, H, W, C].
    """

    seeds: np.ndarray
    labels: np.ndarray | None
    images: np.ndarray


def requests(
    model: Model, seeds: Sequence[int], classes: int | str | Sequence[int] | None = "random"
) -> list[Request]:
    """What to sample: every class in `classes` with every seed.

    Args:
      model: decides which classes there are.
      seeds: integers in [0, 2^32).
      classes: a class or several, "all", or "random": one class per seed, drawn from it. None is
        no label; a model without labels takes only None and "random", which mean the same there.

    Returns:
      Requests, class by class.

    Raises:
      ValueError: a class out of range, or any class for a model without labels.
    """
    seeds, count = [int(s) for s in seeds], model.config.label_dim
    if classes is None or (classes == "random" and not count):
        return [Request(s) for s in seeds]
    if not count:
        raise ValueError(f"class is {classes!r}, but this model was trained without labels")
    if classes == "random":
        return [Request(s, c) for s, c in zip(seeds, random_classes(seeds, count))]
    wanted = range(count) if classes == "all" else np.atleast_1d(classes).tolist()
    for c in wanted:
        if not isinstance(c, int) or not 0 <= c < count:
            raise ValueError(f"class is {c!r}; this model's classes are 0 to {count - 1}")
    return [Request(s, c) for c in wanted for s in seeds]


def random_classes(seeds: Sequence[int], count: int) -> list[int]:
    """A class in [0, count) for each seed, drawn from it."""
    keys = _keys(seeds)[:, LABEL]
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys).tolist()


def _keys(seeds: Sequence[int] | jax.Array) -> jax.Array:
    return jax.vmap(lambda key: jax.random.split(key, 3))(randomness.sample_keys(seeds))


def draw(
    model: Model,
    sampler: Tableau | Program,
    seeds: jax.Array,
    labels: jax.Array | None = None,
    *,
    stochastic: bool | None = None,
    trajectory: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """One batch as a pure function of its seeds. Jit it, or map it.

    Args:
      model: a model.
      sampler: a tableau, or a `Program`.
      seeds: [B] integers.
      labels: [B] class indices, of which negative ones are "no label"; None is none at all.
      stochastic: whether the sampler needs noise on the way; must be told when the tableau is
        traced, and is otherwise read from it.
      trajectory: also return the states on the way.

    Returns:
      Images [B, H, W, C], about in [-1, 1]; with `trajectory` also the states [K + 1, B, H, W, C]
      that the denoiser was evaluated at.
    """
    keys = _keys(seeds)
    noise = randomness.normal(keys[:, NOISE], model.image_shape)
    one_hot = None
    if labels is not None and model.config.label_dim:
        one_hot = jax.nn.one_hot(labels, model.config.label_dim)
    if not isinstance(sampler, Tableau):
        return sampler(model, one_hot, noise, keys[:, PATH])
    noisy = sampler.stochastic if stochastic is None else stochastic
    path_keys = keys[:, PATH] if noisy else None
    return sample(model.denoiser(one_hot), sampler, noise, path_keys, trajectory=trajectory)


def to_uint8(images: jax.Array) -> jax.Array:
    """[-1, 1] -> 0..255, rounded: `floor(clip(127.5 x + 128, 0, 255))`."""
    return jnp.clip(images * 127.5 + 128.0, 0.0, 255.0).astype(jnp.uint8)


@functools.cache
def _mapped(stochastic: bool, devices: int) -> Callable:
    # The tableau is an argument, so all samplers with as many rows and registers share a program.
    def run(model, tableau, seeds, labels):
        return to_uint8(draw(model, tableau, seeds, labels, stochastic=stochastic))

    return processes.map_local(run, (None, None, 0, 0), devices)


def _mapped_program(program: Program, devices: int) -> Callable:
    def run(model, _, seeds, labels):
        return to_uint8(draw(model, program, seeds, labels))

    return processes.map_local(run, (None, None, 0, 0), devices)


def _arrays(wanted: Sequence[Request]) -> tuple[np.ndarray, np.ndarray]:
    labels = [-1 if r.label is None else r.label for r in wanted]
    return np.array([r.seed for r in wanted], np.uint32), np.array(labels, np.int32)


def batches(
    model: Model,
    sampler: Tableau | Program,
    wanted: Sequence[Request],
    batch_size: int = 64,
    devices: int | None = None,
) -> Iterator[tuple[Sequence[Request], np.ndarray]]:
    """Samples in batches over the devices of this process.

    Args:
      model: what to sample from.
      sampler: for example `samplers.heun(timesteps.edm(18))`, or a `Program`.
      wanted: the images to make, see `requests`.
      batch_size: images per device and batch. The last batch is padded, so every image goes
        through the same program, whatever the number of devices.
      devices: how many of this process's devices to use; None is all.

    Yields:
      (requests, uint8 images [n, H, W, C]), in order.

    Raises:
      ValueError: `batch_size` or `devices` is out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    here = processes.local_device_count()
    devices = here if devices is None else devices
    if not 1 <= devices <= here:
        raise ValueError(f"devices is {devices}; this process has {here}")
    if isinstance(sampler, Tableau):
        run, table = _mapped(sampler.stochastic, devices), jax.tree.map(np.float32, sampler)
    else:
        run, table = _mapped_program(sampler, devices), ()
    model, table = processes.replicate_local((model, table), devices)
    step = devices * batch_size
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        padded = [*part, *[part[-1]] * (step - len(part))]
        images = run(model, table, *processes.split_local(_arrays(padded), devices))
        yield part, np.asarray(images).reshape(-1, *model.image_shape)[: len(part)]


def generate(
    model: Model,
    sampler: Tableau | Program,
    seeds: Sequence[int],
    *,
    classes: int | str | Sequence[int] | None = "random",
    batch_size: int = 64,
    devices: int | None = None,
) -> Iterator[Samples]:
    """Samples of every class in `classes` with every seed, over the devices of this process.

    Args:
      model: what to sample from.
      sampler: for example `samplers.heun(timesteps.edm(18))`, or a `Program`.
      seeds: integers in [0, 2^32); an image depends on its own alone.
      classes: a class or several, "all", or "random": one class per seed, drawn from it. None is
        no label; a model without labels takes only None and "random", which mean the same there.
      batch_size: images per device and batch. The last batch is padded, so every image goes
        through the same program, whatever the number of devices.
      devices: how many of this process's devices to use; None is all.

    Yields:
      Samples, class by class.

    Raises:
      ValueError: a class that the model does not have; `batch_size` or `devices` out of range.
    """
    wanted = requests(model, seeds, classes)
    for part, images in batches(model, sampler, wanted, batch_size, devices):
        labels = None if part[0].label is None else np.array([r.label for r in part])
        yield Samples(np.array([r.seed for r in part]), labels, images)


def paths(
    model: Model, tableau: Tableau, wanted: Sequence[Request], columns: int = 12
) -> np.ndarray:
    """Denoising paths to look at: states on the way, scaled to the data's range.

    Args:
      model, tableau, wanted: as for `batches`; all in one batch on one device.
      columns: at most so many states of each path, evenly spread, the image last.

    Returns:
      uint8 [len(wanted), columns, H, W, C].
    """
    run = jax.jit(functools.partial(draw, sampler=tableau, trajectory=True))
    seeds, labels = _arrays(wanted)
    _, states = run(model, seeds=seeds, labels=labels)
    chosen = np.unique(np.linspace(0, tableau.nfe, columns).round().astype(int))
    # A state is data plus noise of level sigma; data has a standard deviation of about one half.
    scale = 0.5 / np.sqrt(0.25 + np.append(tableau.sigma, 0.0) ** 2)
    scale[-1] = 1.0
    shown = states[chosen] * scale[chosen].reshape(-1, 1, 1, 1, 1)
    return np.asarray(to_uint8(shown)).swapaxes(0, 1)
