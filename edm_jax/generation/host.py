"""A model's denoiser for programs on the host: numpy in, numpy out, over the devices there are."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.generation.guided import Guided
from edm_jax.model import Model
from edm_jax.runtime import processes


def _denoised(
    model: Model | Guided, x: jax.Array, sigma: jax.Array, labels: jax.Array
) -> jax.Array:
    one_hot = None
    if model.config.label_dim:
        one_hot = jax.nn.one_hot(labels, model.config.label_dim)
    denoise = model.denoiser(one_hot)
    if not callable(denoise):
        raise ValueError("model must have a denoiser without a memory, got one that remembers")
    return denoise(x, sigma)


@functools.cache
def _mapped(devices: int) -> Callable:
    return processes.map_local(_denoised, (None, 0, None, 0), devices)


def host_denoiser(
    model: Model | Guided, *, batch_size: int = 16, devices: int | None = None
) -> Callable[[np.ndarray, float, np.ndarray], np.ndarray]:
    """The denoiser of a model as `tuning.tune` calls it, with class indices for a context.

    Every batch is padded to one size for each device, so all images go through the same program
    and come out with the same bytes, whatever the number of devices.

    Args:
      model: a model, or a guided one whose denoiser remembers nothing.
      batch_size: images per device at once.
      devices: how many of this process's devices to use at most; None is all.

    Returns:
      (x `[b, H, W, C]`, sigma, labels `[b]` of which negative ones are "no label") -> D, of x's
      shape, float32.

    Raises:
      ValueError: `batch_size` or `devices` out of range.
    """
    devices = processes.devices_for(batch_size, devices, None)
    place = functools.lru_cache(1)(lambda count: processes.replicate_local(model, count))
    used = 1  # as many as the largest call so far has had batches for

    def denoise(x: np.ndarray, sigma: float, labels: np.ndarray) -> np.ndarray:
        nonlocal used
        used = max(used, min(devices, -(-len(x) // batch_size)))
        run, copies, step, parts = _mapped(used), place(used), used * batch_size, []
        for start in range(0, len(x), step):
            part = [np.asarray(x[start : start + step], np.float32)]
            part += [np.asarray(labels[start : start + step], np.int32)]
            missing = step - len(part[0])
            padded = tuple(
                np.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1), mode="edge") for a in part
            )
            images, classes = processes.split_local(padded, used)
            found = run(copies, images, jnp.float32(sigma), classes)
            parts.append(np.asarray(found).reshape(step, *x.shape[1:])[: step - missing])
        return np.concatenate(parts)

    return denoise
