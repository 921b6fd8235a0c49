"""`tune`: the sampler of so many calls that comes nearest to a denoiser's own flow."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from edm_jax import timesteps
from edm_jax.checks import check_range
from edm_jax.samplers import Tableau
from edm_jax.timesteps import rounded
from edm_jax.tuning.samples import Asked, Samples
from edm_jax.tuning.search import Search


class Contender(NamedTuple):
    """A sampler, and how far from the flow it ends.

    Attributes:
      name: what it is, in words.
      tableau: the sampler.
      error: the mean over held-out samples of the root mean square distance of an element from
        the flow's end.
      tuning_error: the same over the samples that it was chosen on.
    """

    name: str
    tableau: Tableau
    error: float
    tuning_error: float


class Tuned(NamedTuple):
    """What `tune` found for one number of calls.

    Attributes:
      nfe: the number of calls.
      best: of the three below the nearest to the flow, on the tuning samples; or that of the lowest
        `score`, where there is one.
      fixed: the best of the registry's solvers on the grids that everyone uses.
      searched: the best of them on levels that were moved freely.
      learned: rows by least squares, on levels that were moved freely.
    """

    nfe: int
    best: Contender
    fixed: Contender
    searched: Contender
    learned: Contender

    @property
    def tableau(self) -> Tableau:
        """The best sampler."""
        return self.best.tableau


def tune(
    denoise: Callable[..., Any],
    noise: Any,
    nfe: int,
    *,
    context: Any = None,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    round_sigma: Callable | None = None,
    reference_steps: int = 100,
    score: Callable[[Tableau], float] | None = None,
) -> Tuned:
    """Tunes a sampler of `nfe` calls to a denoiser, by distance to the denoiser's own flow.

    It draws reference paths; tries the solvers of the registry on fixed grids and on those of GITS
    (`costs`, `cheapest`); moves the levels of the best freely (`refine`); and learns rows by least
    squares on such levels (`fit`). All is chosen on the first half of the noise, and the errors are
    those of the other half.

    Args:
      denoise: (x `[b, ...]`, sigma `[]`) -> x0, for any b; or, with `context`, (x, sigma, its b
        rows) -> x0. It is called from the host some thousand times, so jit it.
      noise: `[B, ...]`, standard normal, B of at least 4; 128 are enough for most.
      nfe: how many calls, at least 1.
      context: what the denoiser takes beside x and sigma, such as labels: a tree of `[B, ...]`.
      sigma_min: the lowest noise level that the denoiser knows.
      sigma_max: the first noise level.
      round_sigma: levels -> the nearest ones that the denoiser knows; None is any level.
      reference_steps: steps of the reference paths.
      score: what the best of the three is chosen by, the lower the better, such as a distance
        between its images and data; None is the distance from the flow.

    Returns:
      What was found, and what it is to be compared with.

    Raises:
      ValueError: an argument that is not allowed.
    """
    asked = functools.partial(
        tune_each,
        context=context,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        round_sigma=round_sigma,
        reference_steps=reference_steps,
        score=score,
    )
    return next(asked(denoise, noise, [nfe]))


def tune_each(
    denoise: Callable[..., Any],
    noise: Any,
    nfes: Sequence[int],
    *,
    context: Any = None,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    round_sigma: Callable | None = None,
    reference_steps: int = 100,
    score: Callable[[Tableau], float] | None = None,
) -> Iterator[Tuned]:
    """`tune` for several numbers of calls, with the same reference paths.

    Args:
      denoise: (x `[b, ...]`, sigma `[]`) -> x0, for any b; with `context` also its b rows.
      noise: `[B, ...]`, standard normal, B of at least 4.
      nfes: the numbers of calls, each at least 1.
      context: what the denoiser takes beside x and sigma: a tree of `[B, ...]`.
      sigma_min: the lowest noise level that the denoiser knows.
      sigma_max: the first noise level.
      round_sigma: levels -> the nearest ones that the denoiser knows; None is any level.
      reference_steps: steps of the reference paths.
      score: what the best of the three is chosen by, the lower the better; None is the distance
        from the flow.

    Returns:
      An iterator of what was found for each.

    Raises:
      ValueError: an argument that is not allowed; when it is called.
    """
    check_range(sigma_min, sigma_max)
    for nfe in nfes:
        if not isinstance(nfe, (int, np.integer)) or not 1 <= nfe < reference_steps:
            raise ValueError(
                f"nfe must be an integer from 1 to {reference_steps - 1}, one less than "
                f"reference_steps, got {nfe!r}"
            )
    if np.ndim(noise) < 2 or len(noise) < 4:
        raise ValueError(f"noise must be [B, ...] with B of at least 4, got {np.shape(noise)}")
    dtype = np.asarray(noise).dtype

    def ask(x, sigma, rows):
        given = () if context is None else (jax.tree.map(lambda leaf: leaf[rows], context),)
        return np.asarray(denoise(x, sigma, *given))

    given = Asked(ask, dtype), np.asarray(noise, np.float64), nfes
    return _each(*given, sigma_min, sigma_max, round_sigma, reference_steps, score)


def _each(
    ask, noise, nfes, sigma_min, sigma_max, round_sigma, reference_steps, score
) -> Iterator[Tuned]:
    fine = timesteps.edm(reference_steps, sigma_min=sigma_min, sigma_max=sigma_max)
    fine, half = rounded(fine, round_sigma), len(noise) // 2
    parts = slice(0, half), slice(half, len(noise))
    tuning, held_out = (Samples.of(ask, rows, noise, fine) for rows in parts)
    search = Search(tuning, sigma_min, sigma_max, round_sigma)
    for nfe in nfes:
        three = [
            Contender(name, tableau, held_out.error(tableau), tuning.error(tableau))
            for name, tableau in search.of(int(nfe))
        ]
        key = lambda one: one.tuning_error if score is None else score(one.tableau)
        yield Tuned(int(nfe), min(three, key=key), *three)
