"""A classifier of noisy handwritten digits, for guidance: three minutes on two CPU cores.

ADM's classifier (Dhariwal and Nichol 2021, section 4) at the size of the embedded digits, trained
at the noise levels of EDM, wider. The data are part of the package; no published score or FID to
compare with, and no published time.

CPU, one GPU or eight, 8 images on each:
    python train.py --config configs/digits_classifier.py --workdir runs/digits_classifier
A TPU pod slice (of up to 64 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/digits_classifier.py --workdir gs://BUCKET/digits_classifier"

Samples of the model of configs/digits.py, not told the label but guided by this one
(docs/conditioning.md):
    python sample.py --checkpoint runs/digits --classifier runs/digits_classifier --guidance 2 \\
        --seeds 0-9 --class all --out samples/digits_classifier

Of digits that it has not seen it knows (benchmarks/classifier.py)

    sigma     0.002   0.1   0.2   0.5   1     2     5     20    80
    accuracy  99.4 %  99.4  99.2  97.0  79.7  44.4  20.3  11.8  9.3
    nats      0.028   0.027 0.029 0.095 0.613 1.597 2.174 2.301 2.312   (ln 10 = 2.303)
"""

import dataclasses

from configs import digits
from edm_jax.networks import ClassifierConfig
from edm_jax.training.config import Config, LossConfig


def get_config() -> Config:
    """ADM's encoder on 8×8 images; the rest as for the model that it guides."""
    return dataclasses.replace(
        digits.get_config(),
        model=ClassifierConfig(
            resolution=8,
            channels=1,
            model_channels=32,
            channel_mult=(1, 2),
            num_blocks=1,
            attn_resolutions=(4,),
            head_channels=32,
        ),
        # Guidance asks at every level of a sampler, most of which tell less than EDM's.
        loss=LossConfig(name="classification", arguments={"p_mean": -0.4, "p_std": 1.6}),
        learning_rate=1e-3,
        weight_decay=0.05,
        sample_kimg=0.0,
    )
