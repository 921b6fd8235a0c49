"""CIFAR-10, 32×32: the paper's final configuration (Karras et al. 2022, Table 2, row F; Table 7).

    configs/cifar10.py                   class-conditional, DDPM++      FID 1.79
    configs/cifar10.py:ncsnpp            class-conditional, NCSN++          1.79
    configs/cifar10.py:uncond            unconditional, DDPM++              1.97
    configs/cifar10.py:uncond-ncsnpp     unconditional, NCSN++              1.98

The data: edm-jax dataset --source cifar-10-python.tar.gz --dest data/cifar10.zip

One GPU, in parts of 128 images that fit into 40 GB or so:
    python train.py --config configs/cifar10.py --workdir runs/cifar10 --config.microbatch=128
Eight GPUs, 64 images on each:
    python train.py --config configs/cifar10.py --workdir runs/cifar10
A TPU pod slice, the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/cifar10.py --workdir gs://BUCKET/cifar10 --config.model.dtype=bfloat16"

Published time: 2 days on 8 V100 (200 million images, 390,625 steps). Published FID is of 50,000
images of Heun's deterministic sampler with 18 steps, 35 network evaluations:
    python sample.py --checkpoint runs/cifar10 --seeds 0-49999 --out samples/cifar10 \\
        --solver heun --steps 18
"""

from edm_jax import networks
from edm_jax.training.config import Config, DataConfig, choices


def get_config(text: str = "") -> Config:
    """The settings' own defaults are this run's numbers."""
    labels, architecture = choices(text, ("cond", "uncond"), ("ddpmpp", "ncsnpp"))
    return Config(
        model=getattr(networks, architecture)(),
        data=DataConfig(archive="data/cifar10.zip", conditional=labels == "cond"),
    )
