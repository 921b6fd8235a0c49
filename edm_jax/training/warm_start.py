"""Starting a run from another model's weights."""

from typing import Any

import jax
import numpy as np

from edm_jax.training.state import TrainState
from edm_jax.weights import load
from edm_jax.weights.official.names import flatten


def matching(fresh: Any, given: Any) -> tuple[dict[tuple[str, ...], Any], list[str], list[str]]:
    """Compares two parameter trees by name and shape.

    Args:
      fresh: of the run.
      given: of the model to start from.

    Returns:
      What of `given` fits by path, and the names that do not: of `fresh`, and of `given`.
    """
    ours, theirs = flatten(fresh), flatten(given)
    fits = {p: a for p, a in theirs.items() if p in ours and ours[p].shape == a.shape}
    missing, unused = (
        sorted("/".join(p) for p in tree if p not in fits) for tree in (ours, theirs)
    )
    return fits, missing, unused


def start_from(state: TrainState, path: str) -> tuple[TrainState, str]:
    """Copies into parameters and averages whatever of a model's has the same name and shape.

    Args:
      state: fresh, on its devices.
      path: anything that `weights.load` reads.

    Returns:
      The state, and one line of what was copied and what was not.

    Raises:
      ValueError: no model at `path`, or nothing of it fits.
    """
    fits, missing, unused = matching(state.params, load(path).params)
    if not fits:
        raise ValueError(
            f"init must hold weights of the name and shape of some here, got none in {path!r}"
        )

    def replace(tree: Any) -> Any:
        def leaf(keys, fresh):
            found = fits.get(tuple(key.key for key in keys))
            if found is None:
                return fresh
            return jax.device_put(np.asarray(found, fresh.dtype), fresh.sharding)

        return jax.tree_util.tree_map_with_path(leaf, tree)

    note = f"{len(fits)} of {len(flatten(state.params))} arrays from {path}"
    for what, names in (("fresh", missing), ("unused there", unused)):
        if names:
            note += f"; {what}: {', '.join(names[:6])}" + (", …" if len(names) > 6 else "")
    state = state.replace(
        params=replace(state.params),
        ema=replace(state.ema),
        averages={name: replace(tree) for name, tree in state.averages.items()},
    )
    return state, note
