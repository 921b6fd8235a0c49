"""What training can do beyond the paper's runs: objectives, precision, averages, transfer, plots."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import edm_jax
from edm_jax import losses, parallel, variational
from edm_jax.cli.main import main
from edm_jax.model import Model, build_network, build_preconditioner, ddpmpp
from edm_jax.training import bins, checkpoint, ema, loop, metrics, optimizer, posthoc, state, transfer
from edm_jax.training.config import Config, LossConfig
from edm_jax.training.step import make_draw, make_train_step

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


def run_of(**changes) -> Config:
    model = ddpmpp(**{**TINY.__dict__, "resolution": 0, "channels": 0, "label_dim": 0})
    settings = dict(
        model=model, batch_size=16, duration_kimg=0.128, learning_rate=1e-3, rampup_kimg=0.0,
        ema_halflife_kimg=0.05, augment=0.0, log_kimg=0.064, sample_kimg=0.0,
        checkpoint_kimg=0.064, sample_steps=3,
    )  # fmt: skip
    return Config(**(settings | changes))


def step_of(config, objective, *, axis_name=None, **options):
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16))
    model = Model(None, build_network(config), build_preconditioner(config), config)
    step = make_train_step(
        model, make_draw(objective), objective.weight, adam, batch_size=16, ema_halflife=50.0,
        axis_name=axis_name, **options,
    )  # fmt: skip
    return step, adam


def improved(engine_name, rounds):
    """Four steps of improved DDPM with everything: L_hybrid, importance, uncertainty, averages."""
    config = dataclasses.replace(TINY, preconditioner="x0", learned_variance=True)
    config.preconditioner_arguments = {"levels": "cosine"}
    # Few levels: the history is full after ten steps of sixteen images or so.
    objective = losses.objective("iddpm", weight="x0", num_train_steps=4)
    engine = parallel.engine(engine_name)
    averages = ema.shares(16, (0.1,), (0.05,))
    step, adam = step_of(
        config, objective, averages=averages, bound=variational.bound(objective.levels),
        rounds=rounds, shards=engine.shards, unroll=True, axis_name=engine.axis_name,
    )  # fmt: skip
    now = engine.init(
        lambda: state.init(
            jax.random.key(1), config, adam, averages=averages, learn_uncertainty=True, num_levels=4
        )
    )
    step, key, seen = engine.compile(step), engine.key(3), []
    for i in range(5):
        now, numbers = step(now, engine.put(batch_of(16, i)), key)
        seen.append(parallel.to_host(numbers))
    return seen, jax.device_get(parallel.gather_local(now))


def test_every_option_at_once_under_both_engines_and_in_microbatches():
    (seen, final), (seen_jit, final_jit) = improved("pmap", 1), improved("jit", 2)
    for name in ("loss", bins.SUMS, bins.COUNTS):
        for a, b in zip(seen, seen_jit):
            np.testing.assert_allclose(a[name], b[name], rtol=2e-3, atol=1e-5)
    np.testing.assert_array_equal(final.history.count, final_jit.history.count)
    np.testing.assert_allclose(final.history.losses, final_jit.history.losses, rtol=2e-3)
    assert final.history.count.sum() == 5 * 16 and (final.history.count >= 10).all()
    assert np.abs(final.uncertainty).max() > 0
    np.testing.assert_allclose(final.uncertainty, final_jit.uncertainty, atol=3e-3)
    # The newest losses in the history are those of the last step's metrics.
    assert seen[-1][bins.COUNTS].sum() == 16
    # The power average: beta_1 = 0, so it left the initial weights behind at once.
    leaf = lambda tree: np.asarray(jax.tree.leaves(tree)[0])
    assert np.abs(leaf(final.averages["power-0.050"]) - leaf(final.params)).max() < 5e-3


def test_precision_and_loss_scaling_change_the_gradient_little():
    objective = losses.objective("edm")

    def first_moment(scale, dtype):
        config = dataclasses.replace(TINY, dtype=dtype)
        step, adam = step_of(config, objective, loss_scale=scale)
        start = state.init(jax.random.key(1), TINY, adam)
        now, numbers = jax.jit(step)(start, batch_of(16), jax.random.key(3))
        flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(now.opt_state[1].mu)])
        return flat, float(numbers["loss"])

    exact, loss = first_moment(1.0, "float32")
    for scale, dtype, error in ((1.0, "bfloat16", 0.05), (64.0, "float16", 0.01)):
        half, half_loss = first_moment(scale, dtype)
        assert half_loss == pytest.approx(loss, rel=error)
        assert np.linalg.norm(half - exact) < error * np.linalg.norm(exact)


# Without the ramp, which would make both half-lives the same in so short a run.
AVERAGES = dict(
    ema_more_kimg=(0.1,), ema_power=(0.05, 0.1), ema_snapshot_kimg=0.032, ema_rampup_ratio=None
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of eight steps with further averages and their snapshots."""
    workdir = tmp_path_factory.mktemp("averages")
    config = run_of(**AVERAGES)
    assert loop.train(config, str(workdir), quiet=True) is None
    return workdir


def same(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, **(tolerance or {"atol": 0}))


def test_averages_are_kept_in_checkpoints_and_snapshots(run):
    found = posthoc.snapshots(str(run))
    assert [(s, w) for s, w, _ in found] == [(s, w) for s in (2, 4, 6, 8) for w in (0.05, 0.1)]
    for name in ("power-0.050", "power-0.100"):
        kept = checkpoint.restore_model(str(run), ema=name)
        same(kept.params, edm_jax.load(run / "averages" / f"{name}-00000008").params)
    longer = checkpoint.restore_model(str(run), ema="halflife-0.1")
    main_one = checkpoint.restore_model(str(run))
    differ = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (longer.params, main_one.params)))]
    assert max(differ) > 0
    with pytest.raises(ValueError, match="ema is 'power-0.2'; .* halflife-0.1, power-0.050"):
        checkpoint.restore_model(str(run), ema="power-0.2")


def test_an_average_is_reconstructed_by_a_command(run, tmp_path, capsys):
    out = tmp_path / "wide"
    assert main(["ema", str(run), str(out), "--std", "0.1"]) == 0
    assert "from 8 snapshots" in capsys.readouterr().out
    same(edm_jax.load(out).params, edm_jax.load(run / "averages/power-0.100-00000008").params, atol=1e-6)
    assert main(["ema", str(run), str(tmp_path / "none"), "--std", "0.5"]) == 2
    assert "std is 0.5" in capsys.readouterr().err
    assert main(["ema", str(tmp_path), str(tmp_path / "none"), "--std", "0.1"]) == 2
    assert "no snapshots" in capsys.readouterr().err


def test_a_stopped_run_goes_on_with_its_averages(run, tmp_path):
    config = run_of(**AVERAGES)
    loop.train(dataclasses.replace(config, duration_kimg=0.064), str(tmp_path), quiet=True)
    loop.train(config, str(tmp_path), quiet=True)
    for name in (None, "halflife-0.1", "power-0.050"):
        a, b = (checkpoint.restore_model(str(w), ema=name) for w in (run, tmp_path))
        same(a.params, b.params)


def test_a_run_starts_from_another_s_weights(run, tmp_path, monkeypatch):
    given = checkpoint.restore_model(str(run))
    started = []
    start_from = transfer.start_from

    def spy(*arguments):
        started.append(start_from(*arguments))
        return started[-1]

    monkeypatch.setattr(transfer, "start_from", spy)
    config = run_of(init=str(run), duration_kimg=0.016, ema_halflife_kimg=1e6)
    loop.train(config, str(tmp_path), quiet=True)
    [(_, note)] = started
    assert str(run) in note and "fresh" not in note and "unused" not in note
    # The average has no ramp: with so long a half-life it stays at what was given.
    same(checkpoint.restore_model(str(tmp_path)).params, given.params, atol=1e-6)
    # Going on, the weights are not read again; a run from elsewhere is refused.
    loop.train(dataclasses.replace(config, duration_kimg=0.032), str(tmp_path), quiet=True)
    assert len(started) == 1
    with pytest.raises(ValueError, match="init is None, but the run in this workdir has"):
        loop.train(dataclasses.replace(config, init=None), str(tmp_path), quiet=True)


def test_what_does_not_fit_stays_fresh(tmp_path):
    wide = dataclasses.replace(TINY, label_dim=3)
    Model.init(jax.random.key(7), wide).save(tmp_path / "model")
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 16))
    fresh = state.init(jax.random.key(1), TINY, adam)
    found, note = transfer.start_from(fresh, str(tmp_path / "model"))
    assert "fresh: map_label/kernel" in note and "unused there: map_label/kernel" in note
    same(found.params["map_label"]["kernel"], fresh.params["map_label"]["kernel"])
    given = edm_jax.load(tmp_path / "model").params
    same(found.params["map_layer0"], given["map_layer0"])
    same(found.ema["map_layer0"], given["map_layer0"])


def test_the_loss_by_noise_level_is_logged_and_drawn(run, tmp_path, capsys):
    records = metrics.read(run)
    for record in records:
        counts = np.array(record[bins.COUNTS])
        means = np.array([m or 0.0 for m in record[bins.SUMS]])
        assert counts.sum() == 64
        assert (counts * means).sum() / 64 == pytest.approx(record["loss"], rel=1e-4)
    pytest.importorskip("matplotlib")
    assert main(["plot-loss", str(run), "--out", str(tmp_path / "loss.png")]) == 0
    assert (tmp_path / "loss.png").stat().st_size > 5000


def test_noise_levels_fall_into_their_bins():
    centers = bins.centers()
    found = bins.by_sigma(jnp.asarray(centers, jnp.float32), jnp.arange(24.0))
    np.testing.assert_array_equal(found[bins.COUNTS], 1)
    np.testing.assert_array_equal(found[bins.SUMS], np.arange(24))
    ends = bins.by_sigma(jnp.array([1e-9, 2e4]), jnp.ones(2))
    assert ends[bins.COUNTS][0] == ends[bins.COUNTS][-1] == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"loss": LossConfig(importance=True)}, "loss.importance is True, but loss.name is 'edm'"),
        ({"loss": LossConfig("iddpm", variance_weight=1e-3)}, "model.learned_variance"),
        ({"loss": LossConfig(weight="snr")}, "weight must be one of"),
        ({"loss": LossConfig(weight_arguments={"gamma": 1.0})}, "no weight is named"),
        ({"ema_snapshot_kimg": 1.0}, "ema_power is empty"),
        ({"ema_power": (0.4,)}, "std is 0.4"),
        ({"loss_scale": 0.0}, "loss_scale is 0.0"),
        ({"init": "none.pkl"}, "none.pkl"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.train(run_of(**changes), str(tmp_path), quiet=True)
