"""A run of twelve steps, whose program every test of whole runs shares.

They train the small network of tests/small_network.py.
"""

from edm_jax.networks import ddpmpp
from edm_jax.training.config import Config


def tiny(**changes) -> Config:
    """Twelve steps of sixteen digits, with further averages."""
    model = ddpmpp(
        resolution=0, channels=0, model_channels=8, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(), dropout=0.1,
    )  # fmt: skip
    # Without the average's ramp, which would make all half-lives the same in so short a run.
    settings = dict(
        model=model, batch_size=16, duration_kimg=0.192, learning_rate=1e-3, rampup_kimg=0.05,
        ema_halflife_kimg=0.05, ema_rampup_ratio=None, ema_more_kimg=(0.1,), ema_power=(0.05, 0.1),
        ema_snapshot_kimg=0.064, augment=0.0, log_kimg=0.032, sample_kimg=0.0,
        checkpoint_kimg=0.064, sample_steps=3,
    )  # fmt: skip
    return Config(**(settings | changes))
