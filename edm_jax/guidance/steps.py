"""Guidance in some steps of a sampler alone, counted, rather than at some noise levels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.checks import Denoiser, Remembering


def in_steps(
    main: Denoiser,
    rule: Callable[[Denoiser], Denoiser],
    start: int,
    stop: int,
    *,
    evaluations: int = 2,
) -> Remembering:
    """Guides in the steps start <= i <= stop, all of their evaluations (Kynkaanniemi et al. 2024).

    The official rule of the limited interval. The corrector of Heun's step i follows step i: the
    one of step stop, at the level of step stop + 1, is guided, and the one that lands on the level
    of step start is not. No interval of noise levels does that, for there the same level is asked
    for twice, once with and once without guidance. Where a step is one evaluation, the interval
    (sigmas[stop + 1], sigmas[start]) of `classifier_free` is the same.

    >>> plus_one = lambda main: lambda x, sigma: main(x, sigma) + 1
    >>> guided = in_steps(lambda x, s: x, plus_one, 1, 2, evaluations=1)
    >>> memory, seen = guided.init(0.0), []
    >>> for sigma in (4.0, 3.0, 2.0, 1.0):
    ...     image, memory = guided.denoise(0.0, sigma, memory)
    ...     seen.append(float(image))
    >>> seen
    [0.0, 1.0, 1.0, 0.0]

    Args:
      main: the denoiser to guide, called once each time.
      rule: main -> guided denoiser, such as `lambda main: classifier_free(main, uncond, 2.0)`. Its
        guide is called in the guided steps alone. It may not differentiate main.
      start: the first step that is guided, from 0.
      stop: the last one, included. EDM2-XXL: 17 to 22 of 32, for scale 2.
      evaluations: of the denoiser in a step: 2 of `samplers.heun`, 1 of most others.

    Returns:
      The denoiser, which counts its calls; `sample` runs it with tableaux.

    Raises:
      ValueError: steps the wrong way round or negative, no evaluations.
    """
    for name, value, least in (
        ("start", start, 0),
        ("stop", stop, start),
        ("evaluations", evaluations, 1),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")

    def denoise(x, sigma, calls):
        step = calls // evaluations
        inside = (start <= step) & (step <= stop)
        denoised = main(x, sigma)
        guided = rule(lambda x, sigma: denoised)
        return jax.lax.cond(inside, lambda: guided(x, sigma), lambda: denoised), calls + 1

    return Remembering(lambda x: jnp.zeros((), jnp.int32), denoise)
