"""CIFAR-10, 32×32, in one or two network evaluations: a diffusion model made a consistency model.

The unconditional DDPM++ of configs/cifar10.py goes on with its weights, a run of ours or the
official edm-cifar10-32x32-uncond-vp.pkl, by easy consistency tuning (ECT, Geng et al. 2024), alone
or after mid-training (CMT, Hu et al. 2025). MeanFlow (Geng et al. 2025) begins without weights.

    configs/cifar10_ect.py           25.6 million images    FID 3.86 in one call, 2.15 in two
    configs/cifar10_ect.py:hour       1.0 million images                          2.73 in two
    configs/cifar10_ect.py:cmt       38.4 million images    mid-training
    configs/cifar10_ect.py:near      12.8 million images    2.74 in one call, 1.97 in two, after it
    configs/cifar10_ect.py:meanflow   819 million images    2.92 in one call

The data: edm-jax dataset --source cifar-10-python.tar.gz --dest data/cifar10.zip

One GPU:
    python train.py --config configs/cifar10_ect.py:hour --workdir runs/cifar10_ect \\
        --init edm-cifar10-32x32-uncond-vp.pkl
Eight GPUs, 16 images on each:
    python train.py --config configs/cifar10_ect.py --workdir runs/cifar10_ect \\
        --init edm-cifar10-32x32-uncond-vp.pkl
    python train.py --config configs/cifar10_ect.py:cmt --workdir runs/cifar10_cmt \\
        --init edm-cifar10-32x32-uncond-vp.pkl \\
        --config.loss.teacher=edm-cifar10-32x32-uncond-vp.pkl
    python train.py --config configs/cifar10_ect.py:near --workdir runs/cifar10_near \\
        --init runs/cifar10_cmt
Eight GPUs, 128 images on each:
    python train.py --config configs/cifar10_ect.py:meanflow --workdir runs/cifar10_meanflow
A TPU pod slice (of up to 128 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/cifar10_ect.py --workdir gs://BUCKET/cifar10_ect --init runs/cifar10"

The scores are published ones, of 50,000 images; this project has not run these files. Published
time: an hour on an A100 for :hour, about 370 hours of an H200 for :meanflow. In twice as many
images than the first row ECT has 3.60 and 2.11. It goes from 80 to 0.821 in two calls:
    python sample.py --checkpoint runs/cifar10_ect --seeds 0-49999 --out samples/cifar10_ect \\
        --steps 2 --rho 6.6
What differs from the published runs: their mid-training is scored by LPIPS, this by squared error,
and their rate falls linearly to 0 in both of its runs; their MeanFlow has the channel_mult_noise
of 2 and the filter 1, 3, 3, 1, no flips up and down and no turns, and averages every 16th step.
"""

import dataclasses
from typing import Any

from configs import cifar10
from edm_jax.training.config import Config, LossConfig, choices

# In the hour the two levels are as near from the beginning as in the eighth stage.
RUNS: dict[str, dict[str, Any]] = {
    "full": dict(
        loss=LossConfig(name="ect", arguments={"q": 2.0, "stage_kimg": 3200.0}),
        duration_kimg=25_600.0,
        ema_halflife_kimg=887.2,  # 0.9999 a step
    ),
    "hour": dict(
        loss=LossConfig(name="ect", arguments={"q": 256.0, "stage_kimg": 0.0}),
        duration_kimg=1_024.0,
        ema_halflife_kimg=126.7,  # 0.9993
    ),
    "cmt": dict(
        loss=LossConfig(name="cmt", arguments={"solver_options": {"low_orders": "both"}}),
        duration_kimg=38_400.0,
        learning_rate=2e-4,
        ema_halflife_kimg=88.7,  # 0.999
    ),
    "near": dict(
        loss=LossConfig(name="ect", arguments={"q": 4096.0, "stage_kimg": 0.0}),
        duration_kimg=12_800.0,
        ema_halflife_kimg=887.2,
    ),
    "meanflow": dict(
        loss=LossConfig(name="meanflow"),
        duration_kimg=819_200.0,
        batch_size=1024,
        optimizer="adam",
        learning_rate=6e-4,
        rampup_kimg=10_000.0,
        ema_halflife_kimg=14_195.0,  # 0.99995
        augment=0.12,
        sample_kimg=10_240.0,
        checkpoint_kimg=10_240.0,
    ),
}
CONSISTENCY = dict(
    preconditioner="consistency",
    preconditioner_arguments={"sigma_min": 0.0, "noise_scale": 0.25},
)


def get_config(text: str = "") -> Config:
    """The network of configs/cifar10.py with more dropout; the numbers of the papers' runs."""
    (run,) = choices(text, tuple(RUNS))
    config = cifar10.get_config("uncond")
    kind = dict(preconditioner="flow", flow_map=True) if run == "meanflow" else CONSISTENCY
    common: dict[str, Any] = dict(
        model=dataclasses.replace(config.model, dropout=0.2, **kind),
        batch_size=128,
        optimizer="radam",
        learning_rate=1e-4,
        rampup_kimg=0.0,
        augment=0.0,
        sample_kimg=256.0,
        sample_steps=2,
        checkpoint_kimg=256.0,
    )
    return dataclasses.replace(config, **common | RUNS[run])
