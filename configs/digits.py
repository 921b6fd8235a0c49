"""Handwritten digits, 8×8, class-conditional: a few minutes on two CPU cores.

    python train.py --config configs/digits.py --workdir runs/digits
    python sample.py --checkpoint runs/digits --seeds 0-9 --class all --out samples/digits
"""

from edm_jax.model import ddpmpp
from edm_jax.training.config import Config


def get_config() -> Config:
    """EDM's training at the size of the embedded digits; augmentation off, digits are not symmetric."""
    return Config(
        model=ddpmpp(
            resolution=8,
            channels=1,
            model_channels=32,
            channel_mult=(1, 2),
            num_blocks=1,
            attn_resolutions=(4,),
            dropout=0.05,
        ),
        duration_kimg=400.0,
        batch_size=128,
        learning_rate=2e-3,
        rampup_kimg=10.0,
        ema_halflife_kimg=20.0,
        augment=0.0,
        log_kimg=5.0,
        sample_kimg=100.0,
        checkpoint_kimg=50.0,
    )
