"""The best model of a run so far, kept by its step."""

import re
from typing import Any

from etils import epath

from edm_jax.evaluation import scores
from edm_jax.model import Model
from edm_jax.runtime import files
from edm_jax.training import metrics
from edm_jax.weights import save

FOLDER = "best"
_NAME = re.compile(r"step-(\d{8})")


def keep(model: Model, workdir: epath.Path, step: int, found: dict[str, float], *, by: str) -> bool:
    """Keeps a model in place of the one that was the best before, where its score is better.

    Args:
      model: with the averaged parameters.
      workdir: the run's folder, whose stats.jsonl has the scores of the one before.
      step: optimizer steps taken.
      found: its scores.
      by: the one that decides; the higher is better of those in `scores.HIGHER`, else the lower.

    Returns:
      Whether it was kept.
    """
    sign = -1 if by in scores.HIGHER else 1
    value, before = sign * found[by], _kept(workdir)
    known = {r["step"]: sign * r[by] for r in metrics.read(workdir) if r.get(by) is not None}
    if any(known.get(other, value) <= value for other in before if other != step):
        return False
    save(model, workdir / FOLDER / f"step-{step:08d}", overwrite=True)
    for other, path in before.items():
        if other != step:
            files.remove(path)
    return True


def rewind(workdir: epath.Path, step: int) -> int:
    """Removes a model of a later step, which a run that goes on measures again.

    Args:
      workdir: the run's folder.
      step: where it goes on.

    Returns:
      How many were removed.
    """
    late = [path for other, path in _kept(workdir).items() if other > step]
    for path in late:
        files.remove(path)
    return len(late)


def _kept(workdir: epath.Path) -> dict[int, Any]:
    folder = workdir / FOLDER
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    matches = [(_NAME.fullmatch(path.name), path) for path in paths]
    return {int(match[1]): path for match, path in matches if match}
