"""Handwritten digits, 8×8, class-conditional, by EDM2's network and training: minutes on two cores.

No row of the paper, and no published FID or time. The data are part of the package. A step costs
what one of configs/digits.py does (2.79 GFlop, and 2.82 there), and the images are as many.

CPU, one GPU or eight, 8 images on each:
    python train.py --config configs/digits_edm2.py --workdir runs/digits_edm2
A TPU pod slice (of up to 64 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/digits_edm2.py --workdir gs://BUCKET/digits_edm2"

An average of another width, and samples guided by the model of a tenth of the training:
    edm-jax ema runs/digits_edm2 models/wider --std 0.15
    python sample.py --checkpoint runs/digits_edm2 --guidance 1.5 --class all --seeds 0-9 \\
        --guide runs/digits_edm2/averages/power-0.100-00000188 --out samples/digits_edm2
"""

from edm_jax.networks import edm2
from edm_jax.training.config import Config, LossConfig


def get_config() -> Config:
    """EDM2 at the size of the embedded digits; noise levels are those of configs/digits.py."""
    return Config(
        model=edm2(
            resolution=8,
            channels=1,
            model_channels=32,
            channel_mult=(1, 1),
            channel_mult_emb=4,
            num_blocks=1,
            attn_resolutions=(4,),
            head_channels=32,
            label_dropout=0.1,
        ),
        loss=LossConfig("edm", uncertainty=True),
        duration_kimg=120.0,
        batch_size=64,
        learning_rate=0.02,
        rampup_kimg=5.0,
        decay_steps=400.0,
        adam_b2=0.99,
        infinite_gradient=0.0,
        ema_std=0.10,
        ema_power=(0.05,),
        ema_snapshot_kimg=12.0,
        augment=0.0,
        log_kimg=2.0,
        sample_kimg=40.0,
        checkpoint_kimg=20.0,
    )
