"""Draws tuned samplers against the best fixed choices, by number of calls. Needs matplotlib."""

from collections.abc import Mapping
from typing import Any

from edm_jax.weights.tuned_samplers import TunedSampler


def draw(axes: Any, samplers: Mapping[int, TunedSampler]) -> None:
    """Draws both errors, on noise that nothing was chosen on, over the number of calls.

    Args:
      axes: of matplotlib.
      samplers: number of calls -> sampler.
    """
    calls = sorted(samplers)
    lines = {
        "best fixed choice": [samplers[nfe].fixed_error for nfe in calls],
        "tuned": [samplers[nfe].error for nfe in calls],
    }
    for (label, errors), color in zip(lines.items(), ("C7", "C0")):
        axes.plot(calls, errors, marker="o", color=color, label=label)
    axes.set(yscale="log", xlabel="network calls", ylabel="distance from the flow", xticks=calls)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
