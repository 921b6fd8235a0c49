"""A checkpoint in the first layout, of before objectives had a state of their own, is restored."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_network import SmallNetwork

from edm_jax import objectives, preconditioning
from edm_jax.runtime import processes
from edm_jax.training import checkpoint, optimizer, state
from edm_jax.weights.checkpoint import Checkpoints

OPTIONS = {"plain": {}, "all": {"uncertainty": True, "importance": True}}


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_first_layout_is_restored(tmp_path, kind):
    wrapped = objectives.Wrapped(SmallNetwork().apply, preconditioning.iddpm())
    objective = objectives.build("iddpm", wrapped, num_train_steps=4, **OPTIONS[kind])
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16))
    params = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
    now = state.create(params, objective, adam)
    now = jax.tree.map(lambda a: a + jnp.ones_like(a), now)
    clean, moments, *rest = now.opt_state
    if kind == "plain":
        alone = moments._replace(mu=moments.mu[0], nu=moments.nu[0])
        items, opt_state = {}, (clean, alone, *rest)
    else:
        memory = now.objective
        items, opt_state = {"uncertainty": memory.trained, "history": memory.kept}, now.opt_state
    items |= {"step": now.step, "params": now.params, "opt_state": opt_state}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"state": items, "ema": now.ema}, {"config": {}})
        checkpoints.wait()
        about = {"layout": 2}
        checkpoint.save(checkpoints, 4, now, about)
        checkpoints.wait()
        for step in (3, 4):
            found = checkpoint.restore(checkpoints, step, now, processes.local_shardings(now))
            chex.assert_trees_all_equal(jax.device_get(found), jax.device_get(now))
    assert np.asarray(found.params["b"]).tolist() == [2.0] * 3
