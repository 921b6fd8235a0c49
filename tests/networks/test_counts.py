"""Parameter counts of published networks, from shapes alone: nothing is allocated.

Those of the paper's own runs are counted in tests/configs.
"""

import network_cases as cases
import pytest

from edm_jax.model import parameter_count
from edm_jax.networks import DhariwalUNet, SongUNet
from edm_jax.weights.official.names import flatten

PLAIN = dict(in_channels=3, out_channels=3)

# network, trainable parameters, tensors (frequencies included)
PUBLISHED = {
    "imagenet64-iddpm": (DhariwalUNet(64, 3, 6, label_dim=1000), 295_904_454, 541),
    "plain-ncsnpp-32": (SongUNet(32, **PLAIN, **cases.NCSNPP), 62_758_787, None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network(name):
    net, count, tensors = PUBLISHED[name]
    params = cases.abstract_params(net)
    assert parameter_count(params) == count
    assert tensors in (None, len(flatten(params)))
