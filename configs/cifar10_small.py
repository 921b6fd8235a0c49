"""CIFAR-10, 32×32, class-conditional, at a size that two CPU cores carry for ten minutes.

The data: edm-jax dataset --source cifar-10-python.tar.gz --dest data/cifar10.zip

    python train.py --config configs/cifar10_small.py --workdir runs/cifar10_small
    python sample.py --checkpoint runs/cifar10_small --seeds 0-9 --class all --out samples/cifar10

The paper's final configuration (configs/cifar10.py) with a network of a fiftieth of its size, a
ten-thousandth of its images, and mirrored copies in place of augmentation: blurred colours and
shapes that differ by class, no sharp objects. On a GPU (one, or eight) or a TPU pod slice the same
commands take a minute; --config.duration_kimg=20000 --config.ema_halflife_kimg=100 makes them worth
it. There is no published score.
"""

from edm_jax.training.config import Config, neighbour


def get_config() -> Config:
    """CIFAR-10's run, smaller and shorter."""
    config = neighbour(__file__, "cifar10").get_config()
    config.model.model_channels = 32
    config.model.channel_mult = (1, 2, 2)
    config.model.num_blocks = 1
    config.model.dropout = 0.0
    config.data.xflip = True
    config.augment = 0.0
    config.duration_kimg = 25.0
    config.batch_size = 32
    config.rampup_kimg = 2.5
    config.ema_halflife_kimg = 1.25
    config.log_kimg = 0.5
    config.sample_kimg = 5.0
    config.checkpoint_kimg = 5.0
    return config
