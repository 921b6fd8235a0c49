"""The training configurations A to F of Karras et al. 2022, Table 2: one step of the paper each.

    configs/ablation.py:F                     the final configuration; F-cifar10-cond-ddpmpp in full
    configs/ablation.py:A-ffhq64-ncsnpp       a row, a data set, cond or uncond, an architecture

FID of the deterministic sampler, DDPM++ ("VP") / NCSN++ ("VE"):

    row                             CIFAR-10 cond   uncond         FFHQ           AFHQv2
    A  baseline (score-SDE)         2.48 / 3.11     3.01 / 3.77*   3.39 / 25.95   2.58 / 18.52
    B  + adjusted hyperparameters   2.18 / 2.48     2.51 / 2.94    3.13 / 22.53   2.43 / 23.12
    C  + redistributed capacity     2.08 / 2.52     2.31 / 2.83    2.78 / 41.62   2.54 / 15.04
    D  + our preconditioning        2.09 / 2.64     2.29 / 3.10    2.94 / 3.39    2.79 / 3.81
    E  + our loss function          1.88 / 1.86     2.05 / 1.99    2.60 / 2.81    2.29 / 2.28
    F  + non-leaky augmentation     in configs/cifar10.py, ffhq64.py and afhqv2.py
    (* of pretrained networks. The table is quoted from memory of the paper, not from its files.)

The data and the published time are those files' too: a row trains as many images as another.

One GPU, in parts of 64 images:
    python train.py --config configs/ablation.py:C --workdir runs/C --config.microbatch=64
Eight GPUs:
    python train.py --config configs/ablation.py:C --workdir runs/C
A TPU pod slice, the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/ablation.py:C --workdir gs://BUCKET/C --config.model.dtype=bfloat16"

Every row is evaluated with the deterministic sampler of its data set's file. Rows A to C begin and
end at the outermost noise levels that their network knows:
    python sample.py --checkpoint runs/C --seeds 0-49999 --out samples/C \\
        --solver heun --steps 18
"""

import dataclasses

from configs import afhqv2, cifar10, ffhq64
from edm_jax.training.config import Config, LossConfig, choices

ROWS = ("F", "E", "D", "C", "B", "A")
RUNS = {"cifar10": cifar10, "ffhq64": ffhq64, "afhqv2": afhqv2}
BASELINE_WIDTHS = {32: (1, 2, 2, 2), 64: (1, 1, 2, 2, 2)}


def get_config(text: str = "") -> Config:
    """The final configuration with the paper's steps undone, from the last one down to the row."""
    row, data, labels, architecture = choices(
        text, ROWS, tuple(RUNS), ("cond", "uncond"), ("ddpmpp", "ncsnpp")
    )
    words = (labels, architecture) if data == "cifar10" else (architecture,)
    config = RUNS[data].get_config("-".join(words))
    song = {"ddpmpp": "vp", "ncsnpp": "ve"}[architecture]
    for undone in ROWS[: ROWS.index(row)]:
        config = _without(undone, config, song)
    return config


def _without(step: str, config: Config, song: str) -> Config:
    """The configuration before a step; `song` is the architecture's name in score-SDE."""
    if step == "F":  # non-leaky augmentation: mirrored copies instead
        return dataclasses.replace(
            config, augment=0.0, data=dataclasses.replace(config.data, xflip=True)
        )
    if step == "E":  # loss function
        return dataclasses.replace(config, loss=LossConfig(song))
    if step == "D":  # preconditioning
        changes = {"preconditioner": song}
    elif step == "C":  # capacity: back to four and five levels
        changes = {"channel_mult": BASELINE_WIDTHS[config.model.resolution]}
    else:  # hyperparameters of score-SDE
        changes = {"dropout": 0.10}
        config = _baseline_hyperparameters(config)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


def _baseline_hyperparameters(config: Config) -> Config:
    elements = config.model.channels * config.model.resolution**2
    return dataclasses.replace(
        config,
        batch_size=128,
        learning_rate=2e-4,
        rampup_kimg=640.0,
        ema_halflife_kimg=887.0,  # 0.9999 a step
        ema_rampup_ratio=None,
        # Clipped at norm 1 where the loss is a mean over pixels; here it is a sum over them.
        clip_gradient=1.0 * elements,
    )
