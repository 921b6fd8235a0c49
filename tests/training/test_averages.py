"""Power-function averages, and any of them from snapshots of two."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import official_pickles as official
import pytest
from etils import epath

from edm_jax import load
from edm_jax.cli.sampler import load_model
from edm_jax.model import Model, init_params
from edm_jax.networks import ddpmpp, edm2
from edm_jax.training import averages, posthoc
from edm_jax.weights.official import nvidia


def weights_of(std, steps):
    """The weight of each step's parameters in the average, by the recursion itself, in float64."""
    power = averages.exponent(std) + 1
    beta = (1 - 1 / np.arange(1.0, steps + 1)) ** power
    return (1 - beta) * np.append(np.cumprod(beta[:0:-1])[::-1], 1.0)


@pytest.mark.parametrize("std", [0.03, 0.05, 0.10, 0.20])
def test_the_recursion_has_the_width_it_says(std):
    steps = 4000
    share = averages.by_power(std)
    found = np.array([share(jnp.int32(s)) for s in (0, 9, 99, 3999)])
    g = averages.exponent(std)
    np.testing.assert_allclose(
        found, 1 - (1 - 1 / np.array([1.0, 10, 100, 4000])) ** (g + 1), rtol=2e-6
    )
    w, t = weights_of(std, steps), np.arange(1.0, steps + 1)
    exact = (t ** (g + 1) - (t - 1) ** (g + 1)) / steps ** (g + 1)
    np.testing.assert_allclose(w, exact, atol=1e-10)
    mean = (w * t).sum()
    assert np.sqrt((w * (t - mean) ** 2).sum()) / steps == pytest.approx(std, rel=2e-3)


@pytest.mark.parametrize("std, error", [(0.05, 1e-9), (0.07, 4e-3), (0.12, 4e-3), (0.20, 3e-2)])
def test_any_average_from_twenty_snapshots_of_two(std, error):
    steps, every = 4000, 200
    times = np.repeat(np.arange(every, steps + 1, every), 2)
    widths = np.tile([0.05, 0.10], len(times) // 2)
    profiles = np.stack([np.pad(weights_of(w, t), (0, steps - t)) for t, w in zip(times, widths)])
    weights = posthoc.solve(times, widths, steps, std)
    assert weights.sum() == pytest.approx(1.0)
    wanted = weights_of(std, steps)
    assert np.linalg.norm(weights @ profiles - wanted) / np.linalg.norm(wanted) < error


def test_the_inner_product_of_two_profiles():
    """Against Gauss and Legendre's rule, for profiles that end before, with and after another."""

    def profile(t, end, power):
        return np.where(t <= end, (power + 1) / end * (t / end) ** power, 0.0)

    nodes, weights = np.polynomial.legendre.leggauss(40)
    for t_a, power_a, t_b, power_b in ((3, 5, 8, 2), (8, 2, 3, 5), (8, 2, 8, 7), (3, 7, 8, 2)):
        t = 0.5 * min(t_a, t_b) * (nodes + 1)
        both = profile(t, t_a, power_a) * profile(t, t_b, power_b)
        wanted = 0.5 * min(t_a, t_b) * (weights * both).sum()
        assert posthoc.correlation(t_a, power_a, t_b, power_b) == pytest.approx(wanted, rel=1e-12)


pytestmark = pytest.mark.usefixtures("small_networks")
CONFIG = ddpmpp(
    resolution=8, channels=1, model_channels=8, channel_mult=(1,), num_blocks=1,
    attn_resolutions=(), dropout=0.0,
)  # fmt: skip


def constant(value):
    """A model whose every parameter is the same number."""
    shapes = jax.eval_shape(lambda: init_params(jax.random.key(0), CONFIG))
    return Model.build(CONFIG, jax.tree.map(lambda a: np.full(a.shape, value, np.float32), shapes))


def value_of(model):
    """The number of `constant`."""
    (value,) = {float(v) for a in jax.tree.leaves(model.params) for v in np.unique(a)}
    return value


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder of six snapshots: of two widths at three steps, each a number of its own."""
    folder = epath.Path(tmp_path_factory.mktemp("run"))
    for step in (30, 10, 20):
        for std in (0.05, 0.1):
            posthoc.save(constant(step + 100 * std), folder, f"power-{std:.3f}", step)
    (folder / posthoc.FOLDER / "power-0.050-00000040.partial").mkdir()  # no snapshot
    return str(folder)


STEPS, STDS = [10, 10, 20, 20, 30, 30], [0.05, 0.1] * 3


@pytest.mark.slow
def test_snapshots_are_found_by_step(run):
    found = posthoc.snapshots(run)
    assert [(each.step, each.std) for each in found] == list(zip(STEPS, STDS))
    assert [value_of(load(each.path)) for each in found] == [15, 20, 25, 30, 35, 40]


def test_exponents_and_weights_are_the_references(golden):
    arrays = golden("edm2_phema.npz")
    for std, gamma in zip(arrays["std"], arrays["gamma"]):
        assert averages.exponent(std) == pytest.approx(gamma, rel=1e-13)
    steps = np.float32(arrays["beta_t_next"] / arrays["beta_t_delta"] - 1)
    for std in set(arrays["beta_std"].tolist()):
        rows = arrays["beta_std"] == std
        share = averages.by_power(std)(jnp.asarray(steps[rows]))
        np.testing.assert_allclose(share, 1 - arrays["beta"][rows], rtol=2e-6)
    for case in json.loads(str(arrays["cases"])):
        times, stds, exact = (arrays[f"{part}/{case}"] for part in ("in_t", "in_std", "exact"))
        wanted = zip(arrays[f"out_t/{case}"], arrays[f"out_std/{case}"])
        found = np.stack([posthoc.solve(times, stds, t, std) for t, std in wanted], axis=1)
        error = 1e-9 if case == "sixty_four_times" else 1e-12
        np.testing.assert_allclose(found, exact, rtol=0, atol=error, err_msg=case)


@pytest.mark.slow
def test_published_snapshots_in_a_folder(tmp_path):
    """The time of each is a multiple of 1024 images; the name has its thousands."""
    config = edm2(
        resolution=4, channels=1, model_channels=4, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(), preconditioner_arguments={"sigma_data": 0.5},
    )  # fmt: skip
    shapes = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    for kimg, std, value in ((8, 0.05, 1), (8, 0.1, 2), (16, 0.05, 3), (16, 0.1, 4)):
        params = jax.tree.map(lambda a: np.full(a.shape, value, np.float32), shapes)
        weights, arguments = nvidia.to_state_dict(Model.build(config, params))
        half = {name: array.astype(np.float16) for name, array in weights.items()}
        file = tmp_path / f"edm2-img512-xs-{kimg:07d}-{std:.3f}.pkl"
        file.write_bytes(official.edm2_snapshot(half, {**arguments, "class_name": "Precond"}))
    (tmp_path / "img512.pkl").write_bytes(b"")  # statistics are beside them
    model, used = posthoc.reconstruct(str(tmp_path), 0.07)
    weights = posthoc.solve([8192, 8192, 16384, 16384], [0.05, 0.1] * 2, 16384, 0.07)
    assert used == 4 and value_of(model) == pytest.approx(weights @ [1, 2, 3, 4], rel=1e-6)
    assert value_of(posthoc.reconstruct(str(tmp_path), 0.1, step=8)[0]) == pytest.approx(2)


@pytest.mark.parametrize("step, count", [(None, 6), (30, 6), (25, 6), (20, 4), (10, 2), (1, 2)])
def test_an_average_is_made_of_the_snapshots_up_to_the_first_that_reaches_it(run, step, count):
    model, used = posthoc.reconstruct(run, 0.07, step=step)
    weights = posthoc.solve(STEPS[:count], STDS[:count], step or 30, 0.07)
    numbers = np.add(STEPS, 100 * np.array(STDS))[:count]
    assert used == count and value_of(model) == pytest.approx(weights @ numbers, rel=1e-6)


@pytest.mark.slow
def test_a_snapshot_s_own_average_is_that_snapshot(run):
    for step, std in ((20, 0.05), (10, 0.1), (30, 0.1)):
        assert value_of(posthoc.reconstruct(run, std, step=step)[0]) == pytest.approx(
            step + 100 * std
        )


@pytest.mark.slow
def test_commands_take_an_average_by_its_width(run):
    for width, step in (("0.07", None), ("0.1", None), (".05", None)):
        model, at = load_model(run, width)
        wanted, _ = posthoc.reconstruct(run, float(width))
        assert value_of(model) == value_of(wanted) and at == step
    with pytest.raises(ValueError, match="std must lie between 0 and .* got 0.4"):
        load_model(run, "0.4")


def test_times_that_cannot_be_are_named(run):
    for step in (0, 31):
        with pytest.raises(ValueError, match=f"step must be between 1 and 30.*got {step}"):
            posthoc.reconstruct(run, 0.1, step=step)
    for time in (0, -1, 21):
        with pytest.raises(ValueError, match=f"time must be .* at most 20, got {time}"):
            posthoc.solve([10, 20], [0.1, 0.1], time, 0.1)


def test_the_exponent_is_that_of_its_width():
    for e in (0.01, 1.0, 6.0, 100.0):
        std = np.sqrt((e + 1) / (e + 3)) / (e + 2)  # of weights t^e over [0, 1]
        assert averages.exponent(std) == pytest.approx(e, rel=1e-9)


def test_widths_that_cannot_be_are_named():
    for std in (0.0, 0.2887, 0.3):
        with pytest.raises(ValueError, match=f"std must lie .*got {std}"):
            averages.exponent(std)
    for kimg in (-1.0, 0.0):
        with pytest.raises(ValueError, match=f"ema_more_kimg must hold .*got {kimg}"):
            averages.shares(8, halflives_kimg=(kimg,))
    assert list(averages.shares(8, halflives_kimg=(250.0,), powers=(0.05,))) == [
        "halflife-250",
        "power-0.050",
    ]
