"""The training step against the reference, against itself in parts, and on several devices."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import augment, losses, parallel, preconditioning
from edm_jax.interop import names
from edm_jax.model import Model, ModelConfig, build_network, build_preconditioner, ddpmpp, init_params
from edm_jax.training import ema, optimizer, state
from edm_jax.training.step import Examples, make_draw, make_train_step, microbatches

TINY = ddpmpp(
    resolution=8, channels=1, label_dim=10, augment_dim=9, model_channels=8, channel_mult=(1,),
    num_blocks=1, attn_resolutions=(), dropout=0.2, label_dropout=0.3,
)  # fmt: skip


def model_of(config: ModelConfig, params=None) -> Model:
    return Model(params, build_network(config), build_preconditioner(config), config)


def test_six_steps_of_the_reference(golden):
    reference, weights = golden("training.npz"), golden("ddpmpp_edm_cond_augment.npz")
    settings, net = json.loads(str(reference["settings"])), json.loads(str(weights["config"]))
    config = ddpmpp(
        resolution=net["img_resolution"], channels=net["img_channels"], label_dim=net["label_dim"],
        augment_dim=net["augment_dim"], model_channels=net["model_channels"],
        channel_mult=tuple(net["channel_mult"]), num_blocks=net["num_blocks"],
        attn_resolutions=tuple(net["attn_resolutions"]), dropout=0.0,
    )  # fmt: skip
    model = model_of(config)
    tensors = {
        k.removeprefix("weights/"): v.astype(np.float32)
        for k, v in weights.items()
        if k.startswith("weights/")
    }
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    params = names.params_from_state_dict(tensors, like)
    schedule = optimizer.learning_rate(
        settings["lr"], settings["lr_rampup_images"], settings["batch"]
    )
    adam = optimizer.adam(schedule, *settings["betas"], settings["eps"])
    step = jax.jit(
        make_train_step(
            model,
            lambda batch, keys: Examples(**{k: v for k, v in batch.items() if k != "images"}),
            losses.edm_weight(0.5),
            adam,
            batch_size=settings["batch"],
            ema_halflife=settings["ema_halflife_images"],
            ema_rampup_ratio=settings["ema_rampup_ratio"],
        )
    )
    now = state.create(jax.tree.map(jnp.asarray, params), adam)
    for i in range(6):
        batch = {
            "y": reference["y"][i],
            "sigma": reference["sigma"][i].reshape(-1),
            "noise": reference["noise"][i],
            "class_labels": reference["class_labels"][i],
            "augment_labels": reference["augment_labels"][i],
        }
        batch = {k: np.asarray(v, np.float32) for k, v in batch.items()}
        now, metrics = step(now, {**batch, "images": batch["y"]}, jax.random.key(0))
        assert metrics["loss"] == pytest.approx(reference["loss"][i], rel=1e-5)
        assert metrics["grad_norm"] == pytest.approx(reference["grad_norm"][i], rel=1e-5)
        assert metrics["ema_beta"] == pytest.approx(reference["ema_beta"][i], rel=1e-6, abs=1e-7)
        assert schedule(i) == pytest.approx(reference["learning_rate"][i], rel=1e-6)
    checked = 0
    for kind, tree in (("params", now.params), ("ema", now.ema)):
        final = names.state_dict_from_params(jax.device_get(tree))
        for name, tensor in final.items():
            key = f"{kind}/{name}"
            if key not in reference or name.endswith("qkv.bias"):
                continue
            tensor = np.asarray(tensor, np.float64)
            found = [tensor.mean(), tensor.std(), *np.resize(tensor, 8)]
            np.testing.assert_allclose(found, reference[key], rtol=0, atol=2e-6, err_msg=key)
            checked += 1
    assert checked > 150


def batch_of(count, key=0):
    rng = np.random.default_rng(key)
    return {
        "images": rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8),
        "labels": np.eye(10, dtype=np.float32)[rng.integers(0, 10, count)],
    }


def settings_of(engine_name="jit", rounds=1, devices_share=1, fsdp=False):
    engine = parallel.engine(engine_name, fsdp=fsdp)
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16))
    objective = losses.objective("edm")
    draw = make_draw(
        objective, lambda keys, images: augment.augment(keys, images, augment.edm(0.5))
    )
    step = engine.compile(
        make_train_step(
            model_of(TINY), draw, objective.weight, adam, batch_size=16, ema_halflife=100.0,
            rounds=rounds, shards=engine.shards, unroll=True, axis_name=engine.axis_name,
        )
    )  # fmt: skip
    start = engine.init(lambda: state.init(jax.random.key(1), TINY, adam))
    return engine, step, start


def three_steps(**options):
    engine, step, now = settings_of(**options)
    key, losses_seen = engine.key(3), []
    for i in range(3):
        now, metrics = step(now, engine.put(batch_of(16, i)), key)
        losses_seen.append(float(parallel.to_host(metrics["loss"])))
    return losses_seen, jax.device_get(parallel.gather_local(now))


@pytest.fixture(scope="module")
def by_pmap():
    return three_steps(engine_name="pmap")


@pytest.mark.parametrize("options", [{}, {"fsdp": True}, {"rounds": 2}], ids=str)
def test_the_jit_engine_agrees_with_pmap(by_pmap, options):
    losses_seen, final = three_steps(engine_name="jit", **options)
    np.testing.assert_allclose(losses_seen, by_pmap[0], rtol=2e-6)
    # Adam divides by the gradient's size: a weight whose gradient is rounding noise moves freely.
    for now, then in zip(jax.tree.leaves(final.params), jax.tree.leaves(by_pmap[1].params)):
        assert np.abs(now - then).max() < 2e-3 and np.median(np.abs(now - then)) < 1e-6


def test_fsdp_spreads_the_state_over_the_devices():
    _, _, now = settings_of("jit", fsdp=True)
    large = [a for a in jax.tree.leaves((now.params, now.ema, now.opt_state)) if a.size >= 1024 and max(a.shape) % 8 == 0]
    assert len(large) > 10
    for leaf in large:
        assert leaf.addressable_shards[0].data.size * 8 == leaf.size


def test_gradients_of_microbatches_are_those_of_the_batch():
    def gradient_norm(rounds):
        objective = losses.objective("edm")
        adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16))
        step = make_train_step(
            model_of(TINY), make_draw(objective, None), objective.weight, adam, batch_size=16,
            ema_halflife=1.0, rounds=rounds, unroll=True,
        )  # fmt: skip
        now, metrics = jax.jit(step)(
            state.init(jax.random.key(1), TINY, adam), batch_of(16), jax.random.key(3)
        )
        return now.opt_state[1].mu, metrics

    (whole, metrics), (parts, metrics_parts) = gradient_norm(1), gradient_norm(2)
    assert float(metrics["loss"]) == pytest.approx(float(metrics_parts["loss"]), rel=1e-6)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * max(1.0, np.abs(a).max()))


def test_microbatches_take_rows_from_every_shard():
    rows = microbatches(np.arange(12), rounds=2, shards=3)
    assert rows.tolist() == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]


def test_the_learning_rate_ramps_in_images_beyond_int32():
    schedule = optimizer.learning_rate(2e-4, 4e9, 4096)
    assert schedule(0) == 0.0
    assert schedule(jnp.int32(700_000)) == pytest.approx(2e-4 * 700_000 * 4096 / 4e9, rel=1e-6)
    assert schedule(jnp.int32(2_000_000)) == pytest.approx(2e-4)


def test_nonfinite_gradients_are_replaced():
    grads = {"w": jnp.array([jnp.nan, jnp.inf, -jnp.inf, 2.0])}
    clean, _ = optimizer.replace_nonfinite().update(grads, optimizer.replace_nonfinite().init(grads))
    assert clean["w"].tolist() == [0.0, 1e5, -1e5, 2.0]


def test_the_average_has_the_half_life_it_says():
    # A parameter that jumps from 0 to 1: after one half-life the average is 1/2.
    average, steps = jnp.zeros(()), 50
    for step in range(steps):
        share = ema.decay(jnp.float32(1e6 + step * 20), 20, halflife=1000.0, rampup_ratio=0.05)
        average = ema.update(average, jnp.ones(()), share)
    assert float(average) == pytest.approx(0.5, abs=1e-5)


def test_the_average_starts_as_a_copy():
    assert float(ema.decay(jnp.float32(0.0), 8, 1000.0, 0.05)) == 1.0
    assert float(ema.decay(jnp.float32(0.0), 8, 1000.0, None)) == pytest.approx(
        1 - 0.5 ** (8 / 1000), rel=1e-6
    )


def test_initial_loss_of_an_edm_model_is_one_for_data_of_its_own_variance():
    objective = losses.objective("edm")
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 64))

    def draw(batch, keys):
        drawn = make_draw(objective)(batch, keys)
        # Second moment sigma_data^2, up to sampling.
        y = 0.5 * jax.random.rademacher(jax.random.key(5), drawn.y.shape, jnp.float32)
        return drawn._replace(y=y, dropout_keys=None)

    config = ddpmpp(**{**TINY.__dict__, "augment_dim": 0, "dropout": 0.0})
    step = make_train_step(
        model_of(config), draw, objective.weight, adam, batch_size=512, ema_halflife=1.0
    )
    _, metrics = jax.jit(step)(
        state.init(jax.random.key(0), config, adam), batch_of(512), jax.random.key(9)
    )
    assert float(metrics["loss"]) == pytest.approx(1.0, abs=0.02)
    assert preconditioning.edm(0.5).sigma_min == 0.0
