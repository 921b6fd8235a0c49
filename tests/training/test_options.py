"""What a step can do beyond the paper's runs: objectives, precision, other weights, binning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_network import SmallNetwork, model_of

import edm_jax
from edm_jax import objectives, preconditioning
from edm_jax.model import Model
from edm_jax.networks import ddpmpp
from edm_jax.runtime import engines, processes
from edm_jax.training import averages, bins, optimizer, state, warm_start
from edm_jax.training.step import make_train_step
from edm_jax.weights import save

TINY = ddpmpp(
    resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,), num_blocks=1,
    attn_resolutions=(), dropout=0.0,
)  # fmt: skip


def batch_of(count, key=0):
    rng = np.random.default_rng(key)
    return {
        "images": rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8),
        "labels": np.eye(10, dtype=np.float32)[rng.integers(0, 10, count)],
    }


def initial(network):
    """Parameters of a network of 8×8 gray images and ten classes."""
    inputs = [np.zeros((1, *n), np.float32) for n in ((8, 8, 1), (), (10,))]
    return network.init(jax.random.key(1), *inputs)["params"]


def improved(engine_name, rounds):
    """Five steps of improved DDPM with everything: L_hybrid, importance, uncertainty, averages."""
    # Few levels: the history is full after ten steps of sixteen images or so.
    engine = engines.engine(engine_name)
    average = averages.Averages(
        averages.by_halflife(16, 50.0), averages.shares(16, halflives_kimg=(0.1,), powers=(0.05,))
    )
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16))
    network = SmallNetwork(out_channels=2, width=16, dropout=0.0, zero=True)
    model = Model(None, network, preconditioning.x0(levels="cosine"), TINY)
    objective = objectives.build(
        "iddpm", model, weight="x0", num_train_steps=4, variance_weight=1e-3, uncertainty=True,
        importance=True,
    )  # fmt: skip
    step = make_train_step(
        model, objective, adam, average, rounds=rounds, shards=engine.shards,
        axis_name=engine.axis_name,
    )  # fmt: skip

    def start():
        return state.create(initial(network), objective, adam, averages=average.further)

    now, key, seen = engine.init(start), engine.key(3), []
    step = engine.compile(step, jax.eval_shape(start))
    for i in range(5):
        now, numbers = step(now, engine.put(batch_of(16, i)), key)
        seen.append(processes.to_host(numbers))
    return seen, jax.device_get(processes.gather_local(now))


@pytest.mark.slow
def test_every_option_at_once_under_both_engines_and_in_microbatches():
    (seen, final), (seen_jit, final_jit) = improved("pmap", 1), improved("jit", 2)
    for name in ("loss", bins.SUMS, bins.COUNTS):
        for a, b in zip(seen, seen_jit):
            np.testing.assert_allclose(a[name], b[name], rtol=2e-3, atol=1e-5)
    np.testing.assert_array_equal(final.objective.kept.count, final_jit.objective.kept.count)
    np.testing.assert_allclose(
        final.objective.kept.losses, final_jit.objective.kept.losses, rtol=2e-3
    )
    assert final.objective.kept.count.sum() == 5 * 16 and (final.objective.kept.count >= 10).all()
    assert np.abs(final.objective.trained).max() > 0
    np.testing.assert_allclose(final.objective.trained, final_jit.objective.trained, atol=3e-3)
    # The newest losses in the history are those of the last step's metrics.
    assert seen[-1][bins.COUNTS].sum() == 16
    # The power average: beta_1 = 0, so it left the initial weights behind at once.
    leaf = lambda tree: np.asarray(jax.tree.leaves(tree)[0])
    assert np.abs(leaf(final.averages["power-0.050"]) - leaf(final.params)).max() < 5e-3


@pytest.mark.slow
def test_half_precision_and_loss_scaling_change_the_gradient_little():
    adam, key = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16)), jax.random.key(3)
    rng, shapes = np.random.default_rng(0), jax.eval_shape(lambda: initial(SmallNetwork(width=16)))
    params = jax.tree.map(lambda a: np.float32(0.1 * rng.standard_normal(a.shape)), shapes)

    def first_moment(scale, dtype):
        network = SmallNetwork(width=16, dropout=0.0, dtype=dtype)
        model = Model(None, network, preconditioning.edm(), TINY)
        objective = objectives.build("edm", model)
        average = averages.Averages(averages.by_halflife(16, 50.0))
        step = make_train_step(model, objective, adam, average, loss_scale=scale)
        first = lambda params, batch: step(state.create(params, objective, adam), batch, key)
        now, numbers = jax.jit(first)(params, batch_of(16))
        flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(now.opt_state[1].mu)])
        return flat, float(numbers["loss"])

    # Networks in bfloat16: tests/networks/test_precision.py.
    exact, loss = first_moment(1.0, jnp.float32)
    half, half_loss = first_moment(64.0, jnp.float16)
    assert half_loss == pytest.approx(loss, rel=0.01)
    assert 0 < np.linalg.norm(half - exact) < 0.01 * np.linalg.norm(exact)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_does_not_fit_stays_fresh(tmp_path):
    wide = dataclasses.replace(TINY, label_dim=3)
    save(model_of(wide, seed=7), tmp_path / "model")
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16))
    objective = objectives.build("edm", Model.build(TINY, None))
    fresh = jax.device_put(state.create(model_of(TINY).params, objective, adam))
    found, note = warm_start.start_from(fresh, str(tmp_path / "model"))
    assert "fresh: map_label/kernel" in note and "unused there: map_label/kernel" in note
    same(found.params["map_label"]["kernel"], fresh.params["map_label"]["kernel"])
    given = edm_jax.load(tmp_path / "model").params
    same(found.params["map_layer0"], given["map_layer0"])
    same(found.ema["map_layer0"], given["map_layer0"])


def test_noise_levels_fall_into_their_bins():
    centers, by_sigma = bins.centers(), jax.jit(bins.by_sigma)
    found = by_sigma(jnp.asarray(centers, jnp.float32), jnp.arange(24.0))
    np.testing.assert_array_equal(found[bins.COUNTS], 1)
    np.testing.assert_array_equal(found[bins.SUMS], np.arange(24))
    ends = by_sigma(jnp.array([1e-9, 2e4]), jnp.ones(2))
    assert ends[bins.COUNTS][0] == ends[bins.COUNTS][-1] == 1
