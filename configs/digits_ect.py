"""Handwritten digits in one or two network evaluations: a quarter of the images of digits.py.

The model of configs/digits.py goes on, at the size of the embedded digits, by one of

    configs/digits_ect.py             easy consistency tuning (Geng et al. 2024)
    configs/digits_ect.py:cmt         mid-training on its paths (Hu et al. 2025), to tune afterwards
    configs/digits_ect.py:scm         continuous-time consistency, distilled (Lu and Song 2024)
    configs/digits_ect.py:meanflow    MeanFlow (Geng et al. 2025)

The data are part of the package; no published score, FID or time to compare with.

CPU, one GPU or eight, 8 images on each (four, 16 on each, for cmt):
    python train.py --config configs/digits_ect.py --workdir runs/digits_ect --init runs/digits
    python train.py --config configs/digits_ect.py:cmt --workdir runs/digits_cmt \\
        --init runs/digits --config.loss.teacher=runs/digits
    python train.py --config configs/digits_ect.py:scm --workdir runs/digits_scm \\
        --init runs/digits --config.loss.teacher=runs/digits
    python train.py --config configs/digits_ect.py:meanflow --workdir runs/digits_meanflow \\
        --init runs/digits
A TPU pod slice (of up to 64 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/digits_ect.py --workdir gs://BUCKET/digits_ect --init runs/digits"

Samples of every class in two calls; --steps 1 is one:
    python sample.py --checkpoint runs/digits_ect --seeds 0-9 --class all --out samples/digits_ect
"""

import dataclasses
from typing import Any

from configs import digits
from edm_jax.training.config import Config, LossConfig, choices

LOSSES = {
    # Three stages: the levels of a pair differ by an eighth, a 64th, a 512th.
    "ect": LossConfig(name="ect", arguments={"q": 8.0, "stage_kimg": 10.0}),
    "cmt": LossConfig(name="cmt", arguments={"solver_options": {"low_orders": "both"}}),
    "scm": LossConfig(name="scm", arguments={"warmup_kimg": 10.0}, uncertainty=True),
    "meanflow": LossConfig(name="meanflow"),
}
CONSISTENCY = dict(
    preconditioner="consistency",
    preconditioner_arguments={"sigma_min": 0.0, "noise_scale": 0.25},
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
        duration_kimg=30.0,
        optimizer="radam",
        learning_rate=1e-3,
        rampup_kimg=0.0,
        ema_halflife_kimg=3.0,
        sample_kimg=10.0,
        sample_steps=2,
        checkpoint_kimg=5.0,
    )
