"""From seeds to images: the sampler over every device, in batches, image i from seed i alone."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import parallel, randomness
from edm_jax.model import Model
from edm_jax.samplers import Tableau, sample

RANDOM_CLASS = -1


class Request(NamedTuple):
    """One image to make.

    Attributes:
        seed: decides noise and, where it is random, the class; in [0, 2^32).
        label: class index; None for no label, `RANDOM_CLASS` for one drawn from the seed.
    """

    seed: int
    label: int | None = None


def requests(
    model: Model, seeds: Sequence[int], classes: int | str | Sequence[int] | None = "random"
) -> list[Request]:
    """What to sample: every class in `classes` with every seed.

    Args:
        model: decides which classes there are.
        seeds: integers in [0, 2^32).
        classes: a class or several, "all", or "random": one class per seed, drawn from it.
            A model without labels takes only "random" or None, which then mean "no label".

    Returns:
        Requests, class by class.

    Raises:
        ValueError: a class out of range, or any class for a model without labels.
    """
    count = model.config.label_dim
    if classes is None or (classes == "random" and not count):
        return [Request(int(s)) for s in seeds]
    if not count:
        raise ValueError(f"class is {classes!r}, but this model was trained without labels")
    if classes == "random":
        return [Request(int(s), RANDOM_CLASS) for s in seeds]
    wanted = range(count) if classes == "all" else np.atleast_1d(classes)
    for c in wanted:
        if isinstance(c, str) or not 0 <= c < count:
            raise ValueError(f"class is {c!r}; this model's classes are 0 to {count - 1}")
    return [Request(int(s), int(c)) for c in wanted for s in seeds]


def _split(seeds: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(randomness.sample_keys(seeds))
    return keys[:, 0], keys[:, 1], keys[:, 2]


def draw(
    model: Model,
    tableau: Tableau,
    seeds: jax.Array,
    labels: jax.Array,
    *,
    stochastic: bool | None = None,
    trajectory: bool = False,
) -> tuple[jax.Array, ...]:
    """One batch, as a pure function: seeds -> latents, classes, images. Jit it, or map it.

    Args:
        model: a conditional or unconditional model.
        tableau: the sampler.
        seeds: [B] integers.
        labels: [B] class indices; `RANDOM_CLASS` draws one from the seed, a value of -2 gives none.
        stochastic: whether the sampler needs noise on the way; must be told when the tableau is
            traced, and is otherwise read from it.
        trajectory: also return the states on the way.

    Returns:
        Images [B, H, W, C] in about [-1, 1], their class indices [B], and with `trajectory` the
        states [K + 1, B, H, W, C] that the denoiser was evaluated at.
    """
    noise_keys, label_keys, path_keys = _split(seeds)
    noise = randomness.normal(noise_keys, model.image_shape)
    one_hot, count = None, model.config.label_dim
    if count:
        drawn = jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(label_keys)
        labels = jnp.where(labels == RANDOM_CLASS, drawn, labels)
        one_hot = jax.nn.one_hot(labels, count)
    keys = path_keys if (tableau.stochastic if stochastic is None else stochastic) else None
    result = sample(model.denoiser(one_hot), tableau, noise, keys, trajectory=trajectory)
    images, *states = result if trajectory else (result,)
    return images, labels, *states


def to_uint8(images: jax.Array) -> jax.Array:
    """[-1, 1] -> 0..255, rounded: `floor(clip(127.5 x + 128, 0, 255))`."""
    return jnp.clip(images * 127.5 + 128.0, 0.0, 255.0).astype(jnp.uint8)


@functools.cache
def _mapped(stochastic: bool) -> Callable:
    # The tableau is an argument, so all samplers with as many rows and registers share a program.
    def run(model, tableau, seeds, labels):
        images, labels = draw(model, tableau, seeds, labels, stochastic=stochastic)
        return to_uint8(images), labels

    return parallel.map_local(run, in_axes=(None, None, 0, 0))


def generate(
    model: Model,
    tableau: Tableau,
    wanted: Sequence[Request],
    batch_size: int = 64,
) -> Iterator[tuple[list[Request], np.ndarray]]:
    """Samples in batches over every device of this process.

    Args:
        model: what to sample from.
        tableau: the sampler, for example `samplers.heun(timesteps.edm(18))`.
        wanted: the images to make, see `requests`.
        batch_size: images per device and batch; the last batch is padded, so every image goes
            through the same program whatever the number of devices.

    Yields:
        (requests with their classes filled in, uint8 images [n, H, W, C]), in order.

    Raises:
        ValueError: `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    devices = parallel.local_device_count()
    model = parallel.replicate_local(model)
    table = parallel.replicate_local(jax.tree.map(np.float32, tableau))
    run = _mapped(tableau.stochastic)
    step = devices * batch_size
    for start in range(0, len(wanted), step):
        part = list(wanted[start : start + step])
        padded = part + [part[-1]] * (step - len(part))
        seeds = np.array([r.seed for r in padded], np.uint32)
        labels = np.array([-2 if r.label is None else r.label for r in padded], np.int32)
        images, labels = run(model, table, *parallel.split_local((seeds, labels)))
        images = np.asarray(images).reshape(-1, *model.image_shape)[: len(part)]
        labels = np.asarray(labels).reshape(-1)
        yield [r._replace(label=None if l < 0 else int(l)) for r, l in zip(part, labels)], images
