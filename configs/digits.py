"""Handwritten digits, 8×8, class-conditional: a few minutes on two CPU cores.

No row of the paper, and no published FID or time. The data are part of the package.

CPU, one GPU or eight, 8 images on each:
    python train.py --config configs/digits.py --workdir runs/digits
A TPU pod slice (of up to 64 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/digits.py --workdir gs://BUCKET/digits"

Samples of every class, by the default sampler (the paper's is --solver heun); how many of them are
recognised is measured by benchmarks/digits.py:
    python sample.py --checkpoint runs/digits --seeds 0-9 --class all --out samples/digits
"""

from edm_jax.networks import ddpmpp
from edm_jax.training.config import Config


def get_config() -> Config:
    """EDM at the size of the embedded digits; no augmentation: a turned 6 is a 9."""
    return Config(
        model=ddpmpp(
            resolution=8,
            channels=1,
            model_channels=32,
            channel_mult=(1, 1),
            num_blocks=1,
            attn_resolutions=(4,),
            dropout=0.0,
            label_dropout=0.1,
        ),
        duration_kimg=120.0,
        batch_size=64,
        learning_rate=2e-3,
        rampup_kimg=5.0,
        ema_halflife_kimg=8.0,
        ema_rampup_ratio=0.1,
        augment=0.0,
        log_kimg=2.0,
        sample_kimg=40.0,
        checkpoint_kimg=20.0,
    )
