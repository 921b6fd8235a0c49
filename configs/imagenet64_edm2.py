"""ImageNet, 64×64, class-conditional, EDM2 (Karras et al. 2024, Table 6): FID 1.58 to 1.33.

    configs/imagenet64_edm2.py:s            size XS, S (default), M, L or XL
    configs/imagenet64_edm2.py:xs-uncond    without labels: the guide of classifier-free guidance

The data: edm-jax dataset --source ILSVRC/train --dest data/imagenet64.zip --resolution 64 \\
              --transform center-crop

Published time: S 1,024 Mi images (524,288 steps of 2,048) on 32 A100. The authors trained in
float16; here the network computes in bfloat16 (--config.model.dtype=float16 for theirs).
One GPU, in parts of 16, and eight, in parts of 32 on each; --config.fsdp=True from size L on:
    python train.py --config configs/imagenet64_edm2.py:s --workdir runs/imagenet64_edm2 \\
        --config.microbatch=16
    python train.py --config configs/imagenet64_edm2.py:s --workdir runs/imagenet64_edm2 \\
        --config.microbatch=32
A TPU pod slice, the same command on every host, the state spread over the devices:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/imagenet64_edm2.py:s --workdir gs://BUCKET/imagenet64_edm2 \\
        --config.fsdp=True"

Afterwards, the width of the published FID (docs/weights.md has those of all sizes) and samples:
    edm-jax ema runs/imagenet64_edm2 models/s-fid --std 0.075
    python sample.py --checkpoint runs/imagenet64_edm2 --seeds 0-49999 \\
        --out samples/imagenet64_edm2 --solver heun --steps 32
"""

import dataclasses

from configs import imagenet512_edm2
from edm_jax.training.config import Config, choices

DURATIONS = {"xs": 1024, "s": 1024, "m": 2048, "l": 1024, "xl": 640}


def get_config(argument: str = "") -> Config:
    """A size, and whether with labels: "s", "xs-uncond"."""
    sizes = ("s", *(name for name in DURATIONS if name != "s"))
    size, labels = choices(argument, sizes, ("cond", "uncond"))
    config = imagenet512_edm2.of_size(size, DURATIONS[size], conditional=labels == "cond")
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, channels=3),
        data=dataclasses.replace(config.data, archive="data/imagenet64.zip"),
        loss=dataclasses.replace(config.loss, arguments={"p_mean": -0.8, "p_std": 1.6}),
        decay_steps=35_000.0,
        sample_kimg=8 * imagenet512_edm2.MI,
    )
