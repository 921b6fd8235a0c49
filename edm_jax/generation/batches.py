"""The sampler over every device, in batches, image i from seed i alone."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness, samplers
from edm_jax.checks import Remembering
from edm_jax.generation.guided import Guided
from edm_jax.generation.seeds import NOISE, PATH, keys_of, with_labels
from edm_jax.model import Model
from edm_jax.runtime import processes
from edm_jax.samplers import Loop, Tableau


class Samples(NamedTuple):
    """A batch of images and what they were made from.

    Attributes:
      seeds: [n] integers.
      labels: [n] class indices; None is "no label".
      images: uint8 [n, H, W, C]; of latents float32, as the model sees them (`edm_jax.latents`).
      finite: [n], whether an image is one; False where it held NaN or infinity.
    """

    seeds: np.ndarray
    labels: np.ndarray | None
    images: np.ndarray
    finite: np.ndarray


@overload
def draw(
    model: Model | Guided,
    sampler: Tableau | Loop,
    seeds: jax.Array,
    labels: jax.Array | None = None,
    *,
    trajectory: Literal[False] = False,
) -> jax.Array:
    """Without the states on the way."""


@overload
def draw(
    model: Model | Guided,
    sampler: Tableau | Loop,
    seeds: jax.Array,
    labels: jax.Array | None = None,
    *,
    trajectory: Literal[True],
) -> tuple[jax.Array, jax.Array]:
    """With the states on the way."""


def draw(
    model: Model | Guided,
    sampler: Tableau | Loop,
    seeds: jax.Array,
    labels: jax.Array | None = None,
    *,
    trajectory: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """One batch as a pure function of its seeds. Jit it, or map it.

    Args:
      model: a model, or a guided one.
      sampler: a tableau, or a loop.
      seeds: [B] integers.
      labels: [B] class indices, of which negative ones are "no label"; None is none at all.
      trajectory: also return the states on the way; of tableaux only.

    Returns:
      Images [B, H, W, C], about in [-1, 1]; with `trajectory` also the states [K + 1, B, H, W, C]
      that the denoiser was evaluated at.
    """
    keys = keys_of(seeds)
    noise = randomness.normal(keys[:, NOISE], model.image_shape)
    one_hot = None
    if labels is not None and model.config.label_dim:
        one_hot = jax.nn.one_hot(labels, model.config.label_dim)
    both = isinstance(sampler, Loop) and sampler.variance
    # A loop says by `variance` which of the two it takes.
    denoise: Callable[..., Any] | Remembering
    if not both:
        denoise = model.denoiser(one_hot)
    elif isinstance(model, Model):
        denoise = model.denoiser_with_variance(one_hot)
    else:
        raise ValueError(
            f"sampler must be one that asks for no variance for a guided model, got {sampler!r}"
        )
    path = keys[:, PATH] if sampler.stochastic else None
    if trajectory:
        return samplers.sample(denoise, sampler, noise, path, trajectory=True)
    return samplers.sample(denoise, sampler, noise, path)


def to_uint8(images: jax.Array) -> jax.Array:
    """[-1, 1] -> 0..255, rounded: `floor(clip(127.5 x + 128, 0, 255))`."""
    return jnp.clip(images * 127.5 + 128.0, 0.0, 255.0).astype(jnp.uint8)


def _images(
    model: Model | Guided, sampler: Tableau | Loop, seeds: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images = draw(model, sampler, seeds, labels)
    finite = jnp.isfinite(images).all((1, 2, 3))
    return images if model.config.latents else to_uint8(images), finite


@functools.cache
def _mapped(devices: int) -> Callable:
    # The tableau is an argument, so all samplers with as many rows and registers share a program.
    return processes.map_local(_images, (None, None, 0, 0), devices)


def _mapped_loop(loop: Loop, devices: int) -> Callable:
    def run(model, _, seeds, labels):
        return _images(model, loop, seeds, labels)

    return processes.map_local(run, (None, None, 0, 0), devices)


def generate(
    model: Model | Guided,
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
      model: what to sample from, a model or a `guided` one.
      sampler: for example `samplers.heun(timesteps.edm(18))`, or `sampler_for(model)`.
      seeds: integers in [0, 2^32); an image depends on its own alone.
      classes: a class or several, "all", or "random": one class per seed, drawn from it. None is
        no label; a model without labels takes only None and "random", which mean the same there.
      labels: [len(seeds)] the class of each seed, in place of `classes`.
      batch_size: images per device and batch. The last batch is padded, so every image goes
        through the same program, whatever the number of devices.
      devices: how many of this process's devices to use at most; None is all.

    Returns:
      An iterator of samples, class by class.

    Raises:
      ValueError: a seed out of range; a class that the model does not have; `batch_size` or
        `devices` out of range; a sampler that does not go with the model.
    """
    seeds, labels = with_labels(model, seeds, classes, labels)
    devices = processes.devices_for(batch_size, devices, len(seeds))
    if isinstance(sampler, Tableau):
        run, table = _mapped(devices), jax.tree.map(np.float32, sampler)
    else:
        run, table = _mapped_loop(sampler, devices), ()
    model, table = processes.replicate_local((model, table), devices)
    # Laid out as the batches will be, so that this is the only time that it is traced.
    rows = tuple(np.zeros(devices * batch_size, dtype) for dtype in (np.uint32, np.int32))
    jax.eval_shape(run, model, table, *processes.split_local(rows, devices))
    return _batches(
        functools.partial(run, model, table), model.image_shape, seeds, labels, batch_size, devices
    )


def _batches(
    run: Callable,
    shape: tuple[int, int, int],
    seeds: np.ndarray,
    labels: np.ndarray | None,
    batch_size: int,
    devices: int,
) -> Iterator[Samples]:
    rows = seeds, np.full(len(seeds), -1, np.int32) if labels is None else labels
    step = devices * batch_size
    for start in range(0, len(seeds), step):
        part = [row[start : start + step] for row in rows]
        count = len(part[0])
        padded = [np.pad(row, (0, step - count), mode="edge") for row in part]
        pixels, finite = run(*processes.split_local(tuple(padded), devices))
        yield Samples(
            part[0],
            None if labels is None else part[1],
            np.asarray(pixels).reshape(-1, *shape)[:count],
            np.asarray(finite).reshape(-1)[:count],
        )


def paths(
    model: Model | Guided,
    tableau: Tableau,
    seeds: Sequence[int] | np.ndarray,
    *,
    classes: int | str | Sequence[int] | None = "random",
    labels: Sequence[int] | np.ndarray | None = None,
    columns: int = 12,
) -> tuple[np.ndarray, np.ndarray]:
    """Denoising paths to look at: states on the way, scaled to the data's range.

    Args:
      model: what to sample from, a model or a `guided` one.
      tableau: the sampler.
      seeds: integers in [0, 2^32); all in one batch on one device.
      classes: a class or several, "all", or "random": one class per seed, drawn from it. None is
        no label.
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
    seeds, labels = with_labels(model, seeds, classes, labels)
    run = jax.jit(functools.partial(draw, sampler=tableau, trajectory=True))
    _, states = run(model, seeds=seeds, labels=labels)
    chosen = np.unique(np.linspace(0, tableau.nfe, columns).round().astype(int))
    sigmas = np.append(tableau.sigma, 0.0)[chosen]
    # A state is data plus noise of level sigma; data has a standard deviation of about one half.
    scale = 0.5 / np.sqrt(0.25 + sigmas**2)
    scale[-1] = 1.0
    shown = states[chosen] * scale.reshape(-1, 1, 1, 1, 1)
    return np.asarray(to_uint8(shown)).swapaxes(0, 1), sigmas
