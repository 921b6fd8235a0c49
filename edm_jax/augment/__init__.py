"""Non-leaky augmentation, on the device and inside the step."""

from edm_jax.augment.pipeline import (
    Parameters,
    Settings,
    apply,
    augment,
    draw,
    edm,
    inverse_map,
    label_dim,
    labels,
)

__all__ = [
    "Parameters",
    "Settings",
    "apply",
    "augment",
    "draw",
    "edm",
    "inverse_map",
    "label_dim",
    "labels",
]
