"""ImageNet, 64×64, class-conditional, ADM (Karras et al. 2022, Figure 5 and Table 7): FID 1.36.

The data: edm-jax dataset --source ILSVRC/train --dest data/imagenet64.zip --resolution 64 \\
              --transform center-crop

The paper trained in float16 with the loss times 100; here the network computes in bfloat16, which
needs no scaling. For the paper's: --config.model.dtype=float16 --config.loss_scale=100.

One GPU, in parts of 32 images:
    python train.py --config configs/imagenet64.py --workdir runs/imagenet64 --config.microbatch=32
Eight GPUs, in parts of 64 on each:
    python train.py --config configs/imagenet64.py --workdir runs/imagenet64 --config.microbatch=64
A TPU pod slice, the same command on every host, the state spread over the devices:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/imagenet64.py --workdir gs://BUCKET/imagenet64 --config.fsdp=True"

Published time: 13 days on 32 A100 of 80 GB (2,500 million images, 610,352 steps). Published FID is
of the stochastic sampler with 256 steps, 511 network evaluations; with 40 deterministic steps, 79
evaluations, it is about 2.2 to 2.4 (not certain).
    python sample.py --checkpoint runs/imagenet64 --seeds 0-49999 --out samples/imagenet64 \\
        --solver heun --steps 256 --s-churn 40 --s-min 0.05 --s-max 50 --s-noise 1.003
"""

from edm_jax import networks
from edm_jax.training.config import Config, DataConfig


def get_config() -> Config:
    """What differs from CIFAR-10's run, whose numbers are the settings' own defaults."""
    return Config(
        model=networks.adm(dtype="bfloat16"),
        data=DataConfig(archive="data/imagenet64.zip"),
        duration_kimg=2_500_000.0,
        batch_size=4096,
        learning_rate=1e-4,
        ema_halflife_kimg=50_000.0,
        augment=0.0,
        log_kimg=200.0,
        sample_kimg=10_000.0,
        sample_steps=40,
        checkpoint_kimg=10_000.0,
    )
