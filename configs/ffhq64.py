"""FFHQ, 64×64, unconditional: the paper's final configuration (Karras et al. 2022, Table 2, row F).

    configs/ffhq64.py             DDPM++      FID 2.39
    configs/ffhq64.py:ncsnpp      NCSN++          2.53

The data: edm-jax dataset --source ffhq1024/ --dest data/ffhq64.zip --resolution 64

One GPU, in parts of 32 images:
    python train.py --config configs/ffhq64.py --workdir runs/ffhq64 --config.microbatch=32
Eight GPUs, 32 images on each:
    python train.py --config configs/ffhq64.py --workdir runs/ffhq64
A TPU pod slice, the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/ffhq64.py --workdir gs://BUCKET/ffhq64 --config.model.dtype=bfloat16"

Published time: 4 days on 8 V100 (200 million images, 781,250 steps). Published FID is of 50,000
images of Heun's deterministic sampler with 40 steps, 79 network evaluations:
    python sample.py --checkpoint runs/ffhq64 --seeds 0-49999 --out samples/ffhq64 \\
        --solver heun --steps 40
"""

from edm_jax import networks
from edm_jax.training.config import Config, DataConfig, choices


def get_config(text: str = "") -> Config:
    """What differs from CIFAR-10's run, whose numbers are the settings' own defaults."""
    (architecture,) = choices(text, ("ddpmpp", "ncsnpp"))
    return Config(
        model=getattr(networks, architecture)(
            resolution=64, channel_mult=(1, 2, 2, 2), dropout=0.05
        ),
        data=DataConfig(archive="data/ffhq64.zip", conditional=False),
        batch_size=256,
        learning_rate=2e-4,
        augment=0.15,
        sample_steps=40,
    )
