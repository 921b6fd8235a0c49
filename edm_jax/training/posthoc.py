"""Moving averages chosen after training, from snapshots of power-function averages (EDM2).

An average of relative width std weighs the parameters of time t' by t'^e, up to its own time t.
Any such profile is nearly a linear combination of the snapshots' (Karras et al. 2024, section 3.2).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from edm_jax.model import Model
from edm_jax.runtime import files
from edm_jax.training.averages import exponent
from edm_jax.weights import load
from edm_jax.weights import save as save_model

FOLDER = "averages"
_NAME = re.compile(r"power-(0\.\d+)-(\d+)")
_PUBLISHED = re.compile(r".*-(\d{7})-(0\.\d{3})\.pkl")  # as NVIDIA names snapshots, with kimg


class Snapshot(NamedTuple):
    """An average of a run that can be loaded by itself.

    Attributes:
      step: when it was taken: optimizer steps, or thousands of images of a published one.
      std: its relative width.
      path: where it is.
      images: how many images were seen, of a published one.
    """

    step: int
    std: float
    path: epath.Path
    images: int | None = None

    @property
    def time(self) -> int:
        """Of its profile: images of a published one, else steps."""
        return self.step if self.images is None else self.images


def save(model: Model, workdir: epath.Path, name: str, step: int) -> None:
    """Writes a snapshot, a model that can be loaded by itself.

    Args:
      model: with the averaged parameters.
      workdir: the run's folder.
      name: of the average, such as "power-0.050".
      step: optimizer steps taken.
    """
    save_model(model, workdir / FOLDER / f"{name}-{step:08d}")


def rewind(workdir: epath.Path, step: int) -> int:
    """Removes the snapshots of steps after `step`, which a run that goes on makes again.

    They may be of other numbers: of a loss that went off, or another learning rate.

    Args:
      workdir: the run's folder.
      step: where it goes on.

    Returns:
      How many were removed.
    """
    late = [found.path for found in _of_run(workdir) if found.step > step]
    for path in late:
        files.remove(path)
    return len(late)


def _of_run(workdir: epath.Path) -> list[Snapshot]:
    folder = workdir / FOLDER
    paths = sorted(folder.glob("power-*")) if folder.is_dir() else []
    matches = [(_NAME.fullmatch(path.name), path) for path in paths]
    return sorted(Snapshot(int(m[2]), float(m[1]), path) for m, path in matches if m)


def _published(folder: epath.Path) -> list[Snapshot]:
    paths = sorted(folder.glob("*.pkl")) if folder.is_dir() else []
    matches = [(_PUBLISHED.fullmatch(path.name), path) for path in paths]
    return sorted(
        Snapshot(int(m[1]), float(m[2]), path, _images(int(m[1]))) for m, path in matches if m
    )


def _images(kimg: int) -> int:
    """Images of a published snapshot: multiples of 1024, of which the name has the thousands."""
    return (1000 * kimg + 999) // 1024 * 1024


def snapshots(workdir: str) -> list[Snapshot]:
    """The snapshots of averages in a folder, by step.

    Args:
      workdir: a run's folder, or a folder of published snapshots, such as
        edm2-img512-s-0033554-0.050.pkl.

    Raises:
      ValueError: there are none.
    """
    folder = files.located(workdir)
    found = _of_run(folder) or _published(folder)
    if not found:
        raise ValueError(
            f"{workdir} must hold snapshots of averages, got none: train with "
            "ema_power=(0.05, 0.1) and ema_snapshot_kimg"
        )
    return found


def correlation(
    t_a: np.ndarray, power_a: np.ndarray, t_b: np.ndarray, power_b: np.ndarray
) -> np.ndarray:
    """The inner product of two profiles t'^e, each of integral 1 up to its t (EDM2, app. C).

        (ea + 1) (eb + 1) / ((ea + eb + 1) max(ta, tb)) (min / max)^(e of the later one)

    Args:
      t_a, t_b: the times up to which they go.
      power_a, power_b: their powers; all four broadcast.
    """
    t_a, t_b, power_a, power_b = (np.asarray(a, np.float64) for a in (t_a, t_b, power_a, power_b))
    power = np.where(t_a < t_b, power_b, -power_a)
    scale = (power_a + 1) * (power_b + 1)
    return scale * (t_a / t_b) ** power / ((power_a + power_b + 1) * np.maximum(t_a, t_b))


def solve(times: Sequence[float], stds: Sequence[float], time: float, std: float) -> np.ndarray:
    """The weights of snapshots whose sum is nearest to the profile of width std at `time`.

    Args:
      times: [S] of the snapshots, in steps or images.
      stds: [S] their relative widths.
      time: of the average that is asked for, at most the latest of `times`.
      std: its relative width.

    Returns:
      [S] float64 of sum 1.

    Raises:
      ValueError: a time or a width out of range.

    >>> solve([10, 20], [0.1, 0.1], 20, 0.1).round(6) + 0
    array([0., 1.])
    """
    if not 0 < time <= max(times):
        raise ValueError(f"time must be positive and at most {max(times)}, got {time}")
    t, e = np.asarray(times, np.float64), np.array([exponent(s) for s in stds])
    a = correlation(t[:, None], e[:, None], t[None], e[None])
    b = correlation(t, e, np.asarray(time), np.asarray(exponent(std)))
    weights = np.linalg.lstsq(a, b, rcond=1e-14)[0]
    return weights / weights.sum()


def reconstruct(workdir: str, std: float, *, step: int | None = None) -> tuple[Model, int]:
    """The model of any average, summed in float64.

    Args:
      workdir: a run's folder, or a folder of published snapshots.
      std: the relative width.
      step: at which time, in the unit of `Snapshot.step`; None is the latest snapshot's.

    Returns:
      The model, and how many snapshots it was made of.

    Raises:
      ValueError: no snapshots, or a time or width out of range.
    """
    found = snapshots(workdir)
    last = found[-1].step
    step = last if step is None else step
    if not 0 < step <= last:
        raise ValueError(f"step must be between 1 and {last}, the latest snapshot's, got {step}")
    end = min(each.step for each in found if each.step >= step)
    found = [each for each in found if each.step <= end]
    time = step if found[0].images is None else _images(step)
    weights = solve([each.time for each in found], [each.std for each in found], time, std)
    part = lambda model, w: jax.tree.map(lambda a: w * np.asarray(a, np.float64), model.params)
    model = load(found[0].path)
    total = part(model, weights[0])
    for weight, each in zip(weights[1:], found[1:]):  # one in memory at a time
        total = jax.tree.map(np.add, total, part(load(each.path), weight))
    return model.replace(params=jax.tree.map(lambda a: a.astype(np.float32), total)), len(found)
