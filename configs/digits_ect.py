"""Handwritten digits in one or two network evaluations: a quarter of the images of digits.py.

Easy consistency tuning (Geng et al. 2024) of the model of configs/digits.py, at the size of the
embedded digits. The data are part of the package; no published score, FID or time to compare with.

CPU, one GPU or eight, 8 images on each:
    python train.py --config configs/digits_ect.py --workdir runs/digits_ect --init runs/digits
A TPU pod slice (of up to 64 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/digits_ect.py --workdir gs://BUCKET/digits_ect --init runs/digits"

Samples of every class in two calls; --steps 1 is one:
    python sample.py --checkpoint runs/digits_ect --seeds 0-9 --class all --out samples/digits_ect
"""

import dataclasses

from configs import digits
from edm_jax.training.config import Config, LossConfig


def get_config() -> Config:
    """The network of configs/digits.py, drawn from by `samplers.consistency`."""
    config = digits.get_config()
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            preconditioner="consistency",
            preconditioner_arguments={"sigma_min": 0.0, "noise_scale": 0.25},
        ),
        # Three stages: the levels of a pair differ by an eighth, a 64th, a 512th.
        loss=LossConfig(name="ect", arguments={"q": 8.0, "stage_kimg": 10.0}),
        duration_kimg=30.0,
        optimizer="radam",
        learning_rate=1e-3,
        rampup_kimg=0.0,
        ema_halflife_kimg=3.0,
        sample_kimg=10.0,
        sample_steps=2,
        checkpoint_kimg=5.0,
    )
