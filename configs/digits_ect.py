"""Handwritten digits in one or two network evaluations: the model of digits.py goes on.

At the size of the embedded digits, by one of

    configs/digits_ect.py:cmt         mid-training (Hu et al. 2025), 30,000 images, and then
    configs/digits_ect.py             easy consistency tuning (Geng et al. 2024), 150,000 images
    configs/digits_ect.py:scm         continuous-time consistency, distilled (Lu and Song 2024)
    configs/digits_ect.py:meanflow    MeanFlow (Geng et al. 2025)

The data are part of the package; no published score, FID or time to compare with. The first two
take three and a half minutes of two CPU cores.

CPU, one GPU or eight, 8 images on each (four, 16 on each, for cmt):
    python train.py --config configs/digits_ect.py:cmt --workdir runs/digits_cmt \\
        --init runs/digits --config.loss.teacher=runs/digits
    python train.py --config configs/digits_ect.py --workdir runs/digits_ect --init runs/digits_cmt
    python train.py --config configs/digits_ect.py:scm --workdir runs/digits_scm \\
        --init runs/digits --config.loss.teacher=runs/digits
    python train.py --config configs/digits_ect.py:meanflow --workdir runs/digits_meanflow \\
        --init runs/digits
A TPU pod slice (of up to 64 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/digits_ect.py --workdir gs://BUCKET/digits_ect --init runs/digits_cmt"

Samples of every class in two calls; --steps 1 is one:
    python sample.py --checkpoint runs/digits_ect --seeds 0-9 --class all --out samples/digits_ect
"""

import dataclasses
from typing import Any

from configs import digits
from edm_jax.training.config import Config, LossConfig, choices

LOSSES = {
    # One stage: mid-training has brought the model to where the last of several would begin.
    "ect": LossConfig(name="ect", arguments={"q": 512.0, "stage_kimg": 0.0}),
    "cmt": LossConfig(name="cmt", arguments={"solver_options": {"low_orders": "both"}}),
    "scm": LossConfig(name="scm", arguments={"warmup_kimg": 10.0}, uncertainty=True),
    "meanflow": LossConfig(name="meanflow"),
}
CONSISTENCY = dict(
    preconditioner="consistency",
    preconditioner_arguments={"sigma_min": 0.0, "noise_scale": 0.25},
)

LENGTH = dict(duration_kimg=30.0, ema_halflife_kimg=3.0, sample_kimg=10.0, checkpoint_kimg=5.0)
LENGTH_OF_TUNING = dict(
    duration_kimg=150.0, ema_halflife_kimg=10.0, sample_kimg=50.0, checkpoint_kimg=25.0
)


def get_config(text: str = "") -> Config:
    """The network of configs/digits.py, drawn from by `samplers.consistency`."""
    (name,) = choices(text, tuple(LOSSES))
    config = digits.get_config()
    changes: dict[str, Any] = dict(flow_map=True) if name == "meanflow" else dict(CONSISTENCY)
    if name in ("cmt", "scm"):
        changes["label_dropout"] = 0.0  # the teacher always has the label
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **changes),
        loss=LOSSES[name],
        optimizer="radam",
        learning_rate=1e-3,
        rampup_kimg=0.0,
        decay_steps=500.0,
        sample_steps=2,
        **(LENGTH_OF_TUNING if name == "ect" else LENGTH),
    )
