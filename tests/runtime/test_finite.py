"""Whether what a run holds is finite, however it lies on the devices."""

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from edm_jax.runtime import processes


@pytest.mark.parametrize("layout", [P(), P(processes.AXIS)], ids=["whole", "spread"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_one_number_of_any_shard_is_seen(layout, dtype, wrong):
    place = NamedSharding(processes.mesh(jax.devices()), layout)
    tree = {"step": np.int32(3), "good": np.ones((8, 2), dtype), "empty": np.ones((0, 4))}
    bad = np.ones((8, 2), dtype)
    bad[6, 1] = wrong
    assert processes.all_finite(jax.device_put(tree["good"], place))
    one = NamedSharding(place.mesh, P())
    kept = {name: jax.device_put(a, one) for name, a in tree.items()}
    assert processes.all_finite(kept)
    assert not processes.all_finite(kept | {"bad": jax.device_put(bad, place)})
