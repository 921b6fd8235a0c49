"""Seeds, their classes and their keys."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from edm_jax import randomness
from edm_jax.generation.guided import Guided
from edm_jax.model import Model

NOISE, LABEL, PATH = range(3)  # the three independent keys of a seed


def pairs(
    model: Model | Guided,
    seeds: Sequence[int] | np.ndarray,
    classes: int | str | Sequence[int] | None = "random",
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
    known, count = check_seeds(seeds), model.config.label_dim
    if classes is None or (classes == "random" and not count):
        return known, None
    if not count:
        raise ValueError(f"classes must be None, as the model has no labels, got {classes!r}")
    if classes == "random":
        return known, random_classes(known, count)
    wanted = np.arange(count) if classes == "all" else check_labels(np.atleast_1d(classes), count)
    return np.tile(known, len(wanted)), np.repeat(wanted, len(known))


def random_classes(seeds: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """A class in [0, count) for each seed, drawn from it."""
    return np.asarray(_random_classes(check_seeds(seeds), count))


@functools.partial(jax.jit, static_argnums=1)
def _random_classes(seeds: jax.Array, count: int) -> jax.Array:
    keys = keys_of(seeds)[:, LABEL]
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys)


def check_seeds(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """The seeds as uint32; raises ValueError unless they are integers in [0, 2^32)."""
    for seed in seeds:
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise ValueError(f"seeds must be integers in [0, 2**32), got {seed!r}")
    return np.asarray(seeds, np.uint32)


def check_labels(labels: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """The labels as int32; raises ValueError unless they are classes of `count`."""
    for label in np.asarray(labels).tolist():
        if not isinstance(label, int) or not 0 <= label < count:
            raise ValueError(f"class must be 0 to {count - 1} for this model, got {label!r}")
    return np.asarray(labels, np.int32)


def with_labels(
    model: Model | Guided,
    seeds: Sequence[int] | np.ndarray,
    classes: int | str | Sequence[int] | None,
    labels: Sequence[int] | np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """(seeds, labels): the labels that are given one by one, or else `pairs` of the classes."""
    if labels is None:
        return pairs(model, seeds, classes)
    if classes != "random":
        raise ValueError(f"classes must be left out where labels are given, got {classes!r}")
    if len(labels) != len(seeds):
        raise ValueError(f"labels must be as many as seeds, {len(seeds)}, got {len(labels)}")
    return check_seeds(seeds), check_labels(labels, model.config.label_dim)


def keys_of(seeds: Sequence[int] | np.ndarray | jax.Array) -> jax.Array:
    """[n, 3] typed keys: a seed's for its start, its class and its path."""
    return jax.vmap(lambda key: jax.random.split(key, 3))(randomness.sample_keys(seeds))
