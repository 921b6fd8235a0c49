"""What a run says of settings that are allowed, and probably not meant."""

import pytest

from edm_jax.training.config import Config
from edm_jax.training.doubts import doubts


@pytest.mark.parametrize("duration, said", [(10.0, ["0.0001"]), (1000.0, []), (2000.0, [])])
def test_a_ramp_that_is_longer_than_the_run_is_told(duration, said):
    config = Config(duration_kimg=duration, rampup_kimg=1000.0, learning_rate=0.01)
    found = list(doubts(config))
    assert len(found) == len(said)
    assert all(f"ends at {rate} and not at 0.01" in line for rate, line in zip(said, found))
