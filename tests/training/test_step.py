"""The training step against the reference, against itself in parts, and on several devices."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_steps
from flax import linen as nn
from small_network import SmallNetwork

from edm_jax import objectives, preconditioning
from edm_jax.model import Model
from edm_jax.networks import ddpmpp, edm2
from edm_jax.runtime import engines, processes
from edm_jax.training import averages, optimizer, state
from edm_jax.training.examples import microbatches
from edm_jax.training.step import make_train_step

TINY = ddpmpp(resolution=8, channels=1, label_dim=10)


@pytest.mark.slow
def test_six_steps_of_the_reference(golden):
    reference, (model, params) = golden("training.npz"), reference_steps.network(golden)
    settings = json.loads(str(reference["settings"]))
    schedule = optimizer.learning_rate(
        settings["lr"], settings["lr_rampup_images"], settings["batch"]
    )
    b1, b2 = settings["betas"]
    adam = optimizer.adam(schedule, b1=b1, b2=b2, eps=settings["eps"])
    objective = objectives.build("edm", model)._replace(
        draw=lambda state, keys, y, conditions: objectives.Examples(**y, conditions=conditions)
    )
    step = jax.jit(
        make_train_step(
            model,
            objective,
            adam,
            averages.Averages(
                averages.by_halflife(
                    settings["batch"],
                    settings["ema_halflife_images"],
                    rampup_ratio=settings["ema_rampup_ratio"],
                )
            ),
            prepared=lambda batch, keys: (batch["data"], batch["conditions"]),
        )
    )
    now = jax.jit(lambda params: state.create(params, objective, adam))(params)
    for i in range(6):
        batch = {
            "y": reference["y"][i],
            "sigma": reference["sigma"][i].reshape(-1),
            "noise": reference["noise"][i],
            "class_labels": reference["class_labels"][i],
            "augment_labels": reference["augment_labels"][i],
        }
        batch = {k: np.asarray(v, np.float32) for k, v in batch.items()}
        data = {name: batch.pop(name) for name in ("y", "sigma", "noise")}
        now, metrics = step(now, {"data": data, "conditions": batch}, jax.random.key(0))
        assert metrics["loss"] == pytest.approx(reference["loss"][i], rel=1e-5)
        assert metrics["grad_norm"] == pytest.approx(reference["grad_norm"][i], rel=1e-5)
        assert metrics["ema_beta"] == pytest.approx(reference["ema_beta"][i], rel=1e-6, abs=1e-7)
        assert schedule(i) == pytest.approx(reference["learning_rate"][i], rel=1e-6)
    compared = 0
    for kind, tree in (("params", now.params), ("ema", now.ema)):
        known = {k.removeprefix(f"{kind}/"): v for k, v in reference.items() if k.startswith(kind)}
        compared += reference_steps.compare(model.network.tree(np.asarray(tree)), known)
    assert compared > 150


def batch_of(count, key=0):
    rng = np.random.default_rng(key)
    return {
        "images": rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8),
        "labels": np.eye(10, dtype=np.float32)[rng.integers(0, 10, count)],
    }


class Zero(nn.Module):
    """The zero function, as every fresh network begins; one parameter."""

    @nn.compact
    def __call__(self, x, c_noise, class_labels=None, augment_labels=None, dropout_keys=None):
        return self.param("gain", nn.initializers.zeros, ()) * x


def step_of(network=SmallNetwork(), batch_size=16, project=TINY.project, powers=(), **options):
    """The step of EDM's objective with such a network, and a function that makes its state."""
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16))._replace(project=project)
    model = Model(None, network, preconditioning.edm(), TINY)
    objective = objectives.build("edm", model)
    average = averages.Averages(
        averages.by_halflife(batch_size, 100.0), averages.shares(batch_size, powers=powers)
    )
    step = make_train_step(model, objective, adam, average, **options)
    inputs = [np.zeros((1, *n), np.float32) for n in ((8, 8, 1), (), (10,))]
    init = lambda: model.network.init(jax.random.key(1), *inputs)["params"]
    start = lambda: state.create(init(), objective, adam, averages=average.further)
    return step, start


def three_steps(engine, **options):
    step, start = step_of(
        project=edm2().project, powers=(0.1,), shards=engine.shards,
        axis_name=engine.axis_name, **options,
    )  # fmt: skip
    run, now, key = engine.compile(step, jax.eval_shape(start)), engine.init(start), engine.key(3)
    losses_seen = []
    for i in range(3):
        now, metrics = run(now, engine.put(batch_of(16, i)), key)
        losses_seen.append(float(processes.to_host(metrics["loss"])))
    return losses_seen, now


@pytest.mark.slow
def test_fsdp_and_microbatches_agree_with_pmap():
    """With EDM2's forced weight normalisation and an average by a power."""
    # Plain jit, augmentation, other numbers of devices and processes: tests/runtime.
    losses_seen, final = three_steps(engines.engine("jit", fsdp=True), rounds=2)
    by_pmap = three_steps(engines.engine("pmap"))
    np.testing.assert_allclose(losses_seen, by_pmap[0], rtol=2e-6)
    # Adam divides by the gradient's size: a weight whose gradient is rounding noise moves freely.
    params, wanted = (jax.device_get(now.params) for now in (final, by_pmap[1]))
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(wanted)):
        assert np.abs(a - b).max() < 2e-3 and np.median(np.abs(a - b)) < 1e-6
    trees = final.params, final.ema, final.averages, final.opt_state
    large = [a for a in jax.tree.leaves(trees) if a.size >= 1024 and max(a.shape) % 8 == 0]
    assert len(large) == 15  # three kernels, their two averages, their two moments
    for leaf in large:
        assert leaf.addressable_shards[0].data.size * 8 == leaf.size


def test_microbatches_take_rows_from_every_shard():
    rows = microbatches(np.arange(12), rounds=2, shards=3)
    assert rows.tolist() == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]


def test_the_learning_rate_ramps_in_images_beyond_int32():
    schedule = optimizer.learning_rate(2e-4, 4e9, 4096)
    assert schedule(0) == 0.0
    assert schedule(jnp.int32(700_000)) == pytest.approx(2e-4 * 700_000 * 4096 / 4e9, rel=1e-6)
    assert schedule(jnp.int32(2_000_000)) == pytest.approx(2e-4)


def test_the_learning_rate_falls_with_the_root_of_the_steps():
    """ImageNet-512, size S, of EDM2: batches of 2048, a ramp of 10 million images."""
    schedule = optimizer.learning_rate(0.01, 1e7, 2048, decay_steps=70_000)
    for images, rate in ((0, 0), (5e6, 0.005), (1e7, 0.01), (143.36e6, 0.01), (2**31, 0.0025837)):
        assert schedule(images / 2048) == pytest.approx(rate, rel=2e-5)


def test_infinite_gradients_become_what_is_asked_for():
    grads = {"w": jnp.array([jnp.nan, jnp.inf, -jnp.inf, 2.0])}
    replace = optimizer.replace_nonfinite(0.0)
    clean, _ = replace.update(grads, replace.init(grads))
    assert clean["w"].tolist() == [0.0, 0.0, 0.0, 2.0]


def test_nonfinite_gradients_are_replaced():
    grads = {"w": jnp.array([jnp.nan, jnp.inf, -jnp.inf, 2.0])}
    replace = optimizer.replace_nonfinite()
    clean, _ = replace.update(grads, replace.init(grads))
    assert clean["w"].tolist() == [0.0, 1e5, -1e5, 2.0]


def test_the_average_has_the_half_life_it_says():
    # A parameter that jumps from 0 to 1: after one half-life the average is 1/2.
    average, steps = jnp.zeros(()), 50
    for step in range(steps):
        share = averages.decay(jnp.float32(1e6 + step * 20), 20, halflife=1000.0, rampup_ratio=0.05)
        average = averages.update(average, jnp.ones(()), share)
    assert float(average) == pytest.approx(0.5, abs=1e-5)


def test_the_average_starts_as_a_copy():
    assert float(averages.decay(jnp.float32(0.0), 8, 1000.0, 0.05)) == 1.0
    assert float(averages.decay(jnp.float32(0.0), 8, 1000.0, None)) == pytest.approx(
        1 - 0.5 ** (8 / 1000), rel=1e-6
    )


@pytest.mark.slow
def test_initial_loss_of_an_edm_model_is_one_for_data_of_its_own_variance():
    # Second moment sigma_data^2 = 1/4 exactly: the images are -1/2 and 1/2, in grey levels.
    images = np.where(np.random.default_rng(5).random((512, 8, 8, 1)) < 0.5, 64, 191)
    batch = {**batch_of(512), "images": images.astype(np.uint8)}
    # That fresh networks are the zero function: tests/networks.
    step, start = step_of(Zero(), batch_size=512)
    _, metrics = jax.jit(lambda batch, key: step(start(), batch, key))(batch, jax.random.key(9))
    assert float(metrics["loss"]) == pytest.approx(1.0, abs=0.02)
