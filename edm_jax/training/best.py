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


class Best:
    """Which model of a run is the best so far, and its folder."""

    def __init__(self, workdir: epath.Path, *, by: str):
        """Reads the score of the model that is kept already, once.

        Args:
          workdir: the run's folder, whose stats.jsonl has that score.
          by: the score that decides; the higher is better of those in `scores.HIGHER`, else the
            lower.
        """
        self._workdir, self._by = workdir, by
        self._sign = -1 if by in scores.HIGHER else 1
        kept = _kept(workdir)
        records = metrics.read(workdir) if kept else []
        self._known = {
            record["step"]: self._sign * record[by]
            for record in records
            if record["step"] in kept and record.get(by) is not None
        }

    def keep(self, model: Model, step: int, found: dict[str, float]) -> bool:
        """Keeps a model in place of the one that was the best before, where its score is better.

        Args:
          model: with the averaged parameters.
          step: optimizer steps taken.
          found: its scores.

        Returns:
          Whether it was kept.
        """
        value, before = self._sign * found[self._by], _kept(self._workdir)
        if any(self._known.get(other, value) <= value for other in before if other != step):
            return False
        save(model, self._workdir / FOLDER / f"step-{step:08d}", overwrite=True)
        self._known = {step: value}
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
