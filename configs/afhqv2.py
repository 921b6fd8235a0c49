"""AFHQv2, 64×64, unconditional: the paper's final run (Karras et al. 2022, Table 2, row F).

    configs/afhqv2.py             DDPM++      FID 1.96
    configs/afhqv2.py:ncsnpp      NCSN++          2.16

The data: edm-jax dataset --source afhqv2/ --dest data/afhqv2-64.zip --resolution 64

One GPU, in parts of 32 images:
    python train.py --config configs/afhqv2.py --workdir runs/afhqv2 --config.microbatch=32
Eight GPUs, 32 images on each:
    python train.py --config configs/afhqv2.py --workdir runs/afhqv2
A TPU pod slice, the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/afhqv2.py --workdir gs://BUCKET/afhqv2 --config.model.dtype=bfloat16"

Published time: 4 days on 8 V100 (200 million images, 781,250 steps). Published FID is of 50,000
images of Heun's deterministic sampler with 40 steps, 79 network evaluations:
    python sample.py --checkpoint runs/afhqv2 --seeds 0-49999 --out samples/afhqv2 \\
        --solver heun --steps 40
"""

import dataclasses

from configs import ffhq64
from edm_jax.training.config import Config


def get_config(text: str = "") -> Config:
    """FFHQ's run on a smaller data set, hence with more dropout."""
    config = ffhq64.get_config(text)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, dropout=0.25),
        data=dataclasses.replace(config.data, archive="data/afhqv2-64.zip"),
    )
