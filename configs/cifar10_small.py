"""CIFAR-10, 32×32, class-conditional, at a size that two CPU cores carry for ten minutes.

The row of configs/cifar10.py (Karras et al. 2022, Table 2, row F) with a network of a fiftieth of
its size, a ten-thousandth of its images, and mirrored copies in place of augmentation: colours
and clouds, no objects yet (docs/training.md shows them). There is no published FID or time.

The data: edm-jax dataset --source cifar-10-python.tar.gz --dest data/cifar10.zip

CPU, one GPU or eight, 4 images on each:
    python train.py --config configs/cifar10_small.py --workdir runs/cifar10_small
A GPU takes a minute; hundreds of times the images make it worth the while:
    python train.py --config configs/cifar10_small.py --workdir runs/cifar10_small \\
        --config.duration_kimg=20000 --config.ema_halflife_kimg=100
A TPU pod slice (of up to 32 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/cifar10_small.py --workdir gs://BUCKET/cifar10_small"

Samples of every class, by the default sampler; the paper's is --solver heun:
    python sample.py --checkpoint runs/cifar10_small --seeds 0-9 --class all --out samples/cifar10
"""

import dataclasses

from configs import cifar10
from edm_jax.training.config import Config


def get_config() -> Config:
    """CIFAR-10's run, smaller and shorter."""
    config = cifar10.get_config()
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model, model_channels=32, channel_mult=(1, 2, 2), num_blocks=1, dropout=0.0
        ),
        data=dataclasses.replace(config.data, xflip=True),
        augment=0.0,
        duration_kimg=14.0,
        batch_size=32,
        rampup_kimg=2.5,
        ema_halflife_kimg=1.25,
        log_kimg=0.5,
        sample_kimg=3.5,
        checkpoint_kimg=3.5,
    )
