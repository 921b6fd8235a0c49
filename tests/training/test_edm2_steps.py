"""EDM2's training step against the reference, and what it projects."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_steps
from jax.flatten_util import ravel_pytree

from edm_jax import objectives
from edm_jax.networks import ddpmpp, edm2
from edm_jax.training import averages, optimizer, state
from edm_jax.training.step import make_train_step
from edm_jax.weights.official import nvidia

BOTH = averages.Averages(averages.by_power(0.05), {"power-0.100": averages.by_power(0.10)})


@pytest.mark.slow
def test_six_steps_of_the_reference_of_edm2(golden):
    reference, arrays = golden("edm2_training.npz"), golden("edm2_cond.npz")
    settings = json.loads(str(reference["settings"]))
    weights = {
        name.removeprefix("weights/"): value.astype(np.float32)
        for name, value in arrays.items()
        if name.startswith("weights/")
    }
    start = nvidia.from_state_dict(weights, json.loads(str(arrays["config"])))
    model, params = reference_steps.raveled(start)
    tree = model.network.tree
    schedule = optimizer.learning_rate(
        peak=settings["ref_lr"],
        rampup_images=settings["rampup_Mimg"] * 1e6,
        batch_size=settings["batch"],
        decay_steps=settings["ref_batches"],
    )
    adam = optimizer.adam(schedule, b1=0.9, b2=0.99, infinite=0.0)._replace(
        project=lambda vector: ravel_pytree(model.config.project(tree(vector)))[0]
    )
    objective = objectives.build("edm", model, p_mean=-0.4, p_std=1.0, uncertainty=True)
    # It keeps the loss of each example as the reference shows it.
    objective = objective._replace(
        init=lambda: objectives.State(kept=jnp.zeros(settings["batch"])),
        draw=lambda state, keys, y, conditions: objectives.Examples(**y, conditions=conditions),
        update=lambda state, e, losses, gather: state._replace(kept=losses.minimised),
    )
    take = lambda batch, keys: (batch["data"], batch["conditions"])
    step = jax.jit(make_train_step(model, objective, adam, BOTH, prepared=take))
    log_variance = jax.jit(
        lambda params, sigma: model.replace(params=adam.project(params)).log_variance(sigma)
    )
    create = lambda params: state.create(params, objective, adam, averages=BOTH.further)
    now = jax.jit(create)(params)
    for i in range(6):
        data = {name: np.float32(reference[name][i]) for name in ("y", "sigma", "noise")}
        labels = {"class_labels": reference["class_labels"][i]}
        u = log_variance(now.params, data["sigma"])
        now, metrics = step(now, {"data": data, "conditions": labels}, jax.random.key(0))
        loss = now.objective.kept.mean() / data["y"][0].size
        assert loss == pytest.approx(reference["loss"][i], rel=1e-5)
        assert metrics["grad_norm"] == pytest.approx(reference["grad_norm"][i], rel=1e-5)
        np.testing.assert_allclose(u, reference["logvar"][i], rtol=0, atol=5e-6)
        assert schedule(i) == pytest.approx(reference["learning_rate"][i], rel=1e-6)
        shares = [BOTH.main(i_ := jnp.int32(i)), BOTH.further["power-0.100"](i_)]
        np.testing.assert_allclose(1 - np.array(shares), reference["ema_beta"][i], atol=1e-6)
    trees = {"params": now.params, "ema-0.050": now.ema, "ema-0.100": now.averages["power-0.100"]}
    checked = 0
    for kind, vector in trees.items():
        final, _ = nvidia.to_state_dict(start.replace(params=tree(np.asarray(vector))))
        for name, tensor in final.items():
            if name.endswith(("freqs", "phases")):
                np.testing.assert_array_equal(tensor, weights[name], err_msg=name)
                continue
            tensor, key = np.asarray(tensor, np.float64), f"{kind}/{name}"
            found = [tensor.mean(), tensor.std(), *tensor.reshape(-1)[:8]]
            np.testing.assert_allclose(found, reference[key], rtol=0, atol=5e-6, err_msg=key)
            checked += 1
    assert checked == 3 * (len(weights) - 4)


def test_networks_without_a_projection_keep_their_parameters():
    tree = {"kernel": np.ones(3, np.float32)}
    assert ddpmpp().project(tree) is tree
    assert (
        np.abs(edm2().project({"kernel": np.full((3, 2), 2, np.float32)})["kernel"] - 1).max()
        < 1e-3
    )
