"""Parameter counts of the published networks, from shapes alone: nothing is allocated."""

import network_cases as cases
import pytest

from edm_jax.interop.names import flatten
from edm_jax.model import parameter_count
from edm_jax.networks import DhariwalUNet, SongUNet

CIFAR = dict(img_resolution=32, in_channels=3, out_channels=3, channel_mult=(2, 2, 2))
CIFAR |= dict(augment_dim=9)
FFHQ = dict(img_resolution=64, in_channels=3, out_channels=3, augment_dim=9)
ADM = dict(img_resolution=64, in_channels=3, label_dim=1000)
PLAIN = dict(in_channels=3, out_channels=3)

# network, trainable parameters, tensors (frequencies included)
PUBLISHED = {
    "cifar10-cond-ddpmpp": (SongUNet(**CIFAR, label_dim=10), 55_735_299, 419),
    "cifar10-uncond-ddpmpp": (SongUNet(**CIFAR), 55_733_891, 417),
    "cifar10-cond-ncsnpp": (SongUNet(**CIFAR, **cases.NCSNPP, label_dim=10), 56_400_643, 424),
    "cifar10-uncond-ncsnpp": (SongUNet(**CIFAR, **cases.NCSNPP), 56_397_827, 422),
    "ffhq-ddpmpp": (SongUNet(**FFHQ), 61_805_571, 541),
    "ffhq-ncsnpp": (SongUNet(**FFHQ, **cases.NCSNPP), 62_761_091, 548),
    "imagenet64-adm": (DhariwalUNet(**ADM, out_channels=3), 295_899_267, 541),
    "imagenet64-iddpm": (DhariwalUNet(**ADM, out_channels=6), 295_904_454, 541),
    "plain-ddpmpp-64": (SongUNet(64, **PLAIN), 61_804_419, None),
    "plain-ncsnpp-32": (SongUNet(32, **PLAIN, **cases.NCSNPP), 62_758_787, None),
    "wide-ddpmpp-64": (SongUNet(64, **PLAIN, channel_mult=(1, 1, 2, 2, 2)), 66_715_267, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network(name):
    net, count, tensors = PUBLISHED[name]
    params = cases.abstract_params(net)
    assert parameter_count(params) == count
    assert tensors in (None, len(flatten(params)))
