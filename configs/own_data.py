"""Images of your own: the network's size, attention, dropout and sigma_data come from the data.

    configs/own_data.py:data/photos.zip     a zip or folder made by edm-jax dataset
    configs/own_data.py                     without an argument: the digits of the package

No row of the paper: no published FID or time. Width, levels and attention are those of the paper's
networks at 32 and 64 pixels, and scaled in between and beyond; sigma_data is the standard deviation
of a thousand images, evenly spread over the set.

The data: edm-jax dataset --source photos/ --dest data/photos.zip --resolution 64

CPU or one GPU; in place of digits the path of your data, and --config.microbatch=32 where memory is
short:
    python train.py --config configs/own_data.py:digits --workdir runs/own
Eight GPUs, 32 images on each:
    python train.py --config configs/own_data.py:digits --workdir runs/own
A TPU pod slice (of up to 256 devices), the same command on every host:
    gcloud compute tpus tpu-vm ssh POD --worker=all --command="cd edm_jax && python train.py \\
        --config configs/own_data.py:digits --workdir gs://BUCKET/own"

Samples, at any time while it trains:
    python sample.py --checkpoint runs/own --seeds 0-63 --out samples/own
"""

import numpy as np

from edm_jax.data import streaming
from edm_jax.networks import SongConfig, ddpmpp
from edm_jax.training.config import Config, DataConfig


def get_config(archive: str = "digits") -> Config:
    """Settings for a data set; a few of its images are read."""
    dataset = streaming.load(archive)
    count = len(dataset.images)
    spread = np.unique(np.linspace(0, count - 1, 1000).astype(np.int64))
    deviation = 0.5 if dataset.latents else float(np.std(dataset.images[spread] / 127.5 - 1))
    # Smaller sets are learned by heart sooner: the paper's rates, by the size of its sets.
    dropout = 0.05 if count >= 60_000 else 0.13 if count >= 30_000 else 0.25
    return Config(
        model=_network(
            dataset.resolution,
            dropout=dropout,
            preconditioner_arguments={"sigma_data": max(round(deviation, 2), 0.05)},
        ),
        data=DataConfig(archive=archive, conditional=dataset.label_dim > 0),
        duration_kimg=20_000.0,
        batch_size=256,
        learning_rate=2e-4,
        rampup_kimg=1_000.0,
        # Turned and stretched a few pixels, small pictures become others: a 6 a 9.
        augment=0.12 if dataset.resolution >= 32 else 0.0,
        sample_kimg=1_000.0,
        checkpoint_kimg=1_000.0,
    )


def _network(side: int, **changes) -> SongConfig:
    """DDPM++ with levels down to 8 pixels (4 for tiny images), attention at 16 or right below."""
    sides = [side]
    while sides[-1] % 2 == 0 and sides[-1] > (8 if side > 8 else 4):
        sides.append(sides[-1] // 2)
    coarse = [s for s in sides[1:] if s <= 16]
    return ddpmpp(
        resolution=0,
        channels=0,
        model_channels=max(32, min(128, 4 * side) // 32 * 32),
        channel_mult=(1,) * (len(sides) - 3) + (2,) * min(len(sides), 3),
        attn_resolutions=tuple(coarse[:1]),
        **changes,
    )
