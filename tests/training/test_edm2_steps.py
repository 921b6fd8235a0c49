"""EDM2's training step against the reference, on engines and devices, and what it projects."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import objectives
from edm_jax.model import Model, init_params
from edm_jax.networks import ddpmpp, edm2
from edm_jax.runtime import engines, processes
from edm_jax.training import averages, optimizer, state
from edm_jax.training.step import make_train_step
from edm_jax.weights.official import nvidia

TINY = edm2(
    resolution=4, channels=1, label_dim=3, model_channels=16, channel_mult=(1,), num_blocks=1,
    attn_resolutions=(), head_channels=16,
)  # fmt: skip
BOTH = averages.Averages(averages.by_power(0.05), {"power-0.100": averages.by_power(0.10)})


def adam_of(config, **rate):
    schedule = optimizer.learning_rate(**rate)
    adam = optimizer.adam(schedule, b1=0.9, b2=0.99, infinite=0.0)
    return schedule, adam._replace(project=config.project)


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
    model = start.replace(params=None)
    schedule, adam = adam_of(
        model.config,
        peak=settings["ref_lr"],
        rampup_images=settings["rampup_Mimg"] * 1e6,
        batch_size=settings["batch"],
        decay_steps=settings["ref_batches"],
    )
    objective = objectives.build("edm", model, p_mean=-0.4, p_std=1.0, uncertainty=True)
    objective = objective._replace(
        draw=lambda state, keys, y, conditions: objectives.Examples(**y, conditions=conditions)
    )
    take = lambda batch, keys: (batch["data"], batch["conditions"])
    plain = make_train_step(model, objective, adam, BOTH, prepared=take)

    @jax.jit
    def step(now, batch):
        """The step, with the loss and u as the reference shows them."""
        examples = objectives.Examples(**batch["data"], conditions=batch["conditions"])
        at = model.replace(params=adam.project(now.params))
        u = at.log_variance(examples.sigma)
        loss = objective.loss(at, now.objective, examples).minimised.mean() / examples.y[0].size
        return *plain(now, batch, jax.random.key(0)), loss, u

    params = jax.tree.map(jnp.asarray, start.params)
    now = state.create(params, objective, adam, averages=BOTH.further)
    for i in range(6):
        data = {name: np.float32(reference[name][i]) for name in ("y", "sigma", "noise")}
        labels = {"class_labels": reference["class_labels"][i]}
        now, metrics, loss, u = step(now, {"data": data, "conditions": labels})
        assert loss == pytest.approx(reference["loss"][i], rel=1e-5)
        assert metrics["grad_norm"] == pytest.approx(reference["grad_norm"][i], rel=1e-5)
        np.testing.assert_allclose(u, reference["logvar"][i], rtol=0, atol=5e-6)
        assert schedule(i) == pytest.approx(reference["learning_rate"][i], rel=1e-6)
        shares = [BOTH.main(i_ := jnp.int32(i)), BOTH.further["power-0.100"](i_)]
        np.testing.assert_allclose(1 - np.array(shares), reference["ema_beta"][i], atol=1e-6)
    trees = {"params": now.params, "ema-0.050": now.ema, "ema-0.100": now.averages["power-0.100"]}
    checked = 0
    for kind, tree in trees.items():
        final, _ = nvidia.to_state_dict(model.replace(params=tree))
        for name, tensor in final.items():
            if name.endswith(("freqs", "phases")):
                np.testing.assert_array_equal(tensor, weights[name], err_msg=name)
                continue
            tensor, key = np.asarray(tensor, np.float64), f"{kind}/{name}"
            found = [tensor.mean(), tensor.std(), *tensor.reshape(-1)[:8]]
            np.testing.assert_allclose(found, reference[key], rtol=0, atol=5e-6, err_msg=key)
            checked += 1
    assert checked == 3 * (len(weights) - 4)


def steps_on(engine, count=3):
    """The state after a few steps of a tiny network on an engine, and the losses on the way."""
    model = Model.build(TINY, None)
    _, adam = adam_of(TINY, peak=0.01, rampup_images=0, batch_size=8)
    objective = objectives.build("edm", model, uncertainty=True)
    step = make_train_step(
        model, objective, adam, BOTH, shards=engine.shards, axis_name=engine.axis_name
    )

    def start():
        params = init_params(jax.random.key(1), TINY)
        return state.create(params, objective, adam, averages=BOTH.further)

    run, now, key = engine.compile(step, jax.eval_shape(start)), engine.init(start), engine.key(3)
    rng, losses = np.random.default_rng(0), []
    for _ in range(count):
        images = rng.integers(0, 256, (8, 4, 4, 1), dtype=np.uint8)
        batch = {"images": images, "labels": np.eye(3, dtype=np.float32)[rng.integers(0, 3, 8)]}
        now, metrics = run(now, engine.put(batch), key)
        losses.append(float(processes.to_host(metrics["loss"])))
    return losses, jax.device_get(now.params)


@pytest.mark.slow
def test_engines_agree_on_edm2():
    losses, params = steps_on(engines.engine("pmap", devices=2))
    others, sharded = steps_on(engines.engine("jit", fsdp=True, devices=2))
    np.testing.assert_allclose(losses, others, rtol=2e-6)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(sharded)):
        # Adam divides by the gradient's size: a weight whose gradient is rounding noise is free.
        assert np.abs(a - b).max() < 2e-2 and np.median(np.abs(a - b)) < 1e-5


@pytest.mark.slow
def test_networks_without_a_projection_keep_their_parameters():
    tree = {"kernel": np.ones(3, np.float32)}
    assert ddpmpp().project(tree) is tree
    assert (
        np.abs(edm2().project({"kernel": np.full((3, 2), 2, np.float32)})["kernel"] - 1).max()
        < 1e-3
    )
