"""Consistency tuning against the reference, and on Gaussian data: its fixed point is known."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, objectives, preconditioning, samplers
from edm_jax.objectives import Pairs, State, Wrapped, nearer
from edm_jax.objectives.ect import Stage

STD = 0.5
EDM = preconditioning.edm()
TABLE_KEYS = ("q", "k", "b")


def cases(reference, name):
    return json.loads(str(reference[name]))


@pytest.fixture(scope="module")
def reference(golden):
    return golden("few_steps.npz")


class Given:
    """A model whose denoiser is a function."""

    preconditioner = EDM

    def __init__(self, denoise):
        self.denoiser = lambda **conditions: denoise


def objective_of(**arguments):
    return objectives.build("ect", Given(None), **arguments)


def test_every_pair_of_levels_is_the_reference_s(reference):
    with jax.enable_x64(True):
        t = jnp.asarray(reference["ect/t"])
        for case in cases(reference, "ect/table_cases"):
            k = case["k"] if case["mapping"] == "sigmoid" else 0.0
            found = nearer(t, case["stage"], q=case["q"], k=k, b=case["b"])
            wanted = reference[f"ect/r/{case['name']}"]
            np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13, err_msg=case["name"])


@pytest.mark.slow
def test_every_loss_is_the_reference_s(reference):
    mixture = ideal.mixture(*(reference[f"mixture/{n}"] for n in ("means", "stds", "weights")))
    y, noise = (reference[f"ect/loss/{n}"] for n in ("y", "eps"))

    def one(case, t, r):
        """r(t), and the losses at t and r."""
        weight = "edm" if case["weight"] == "snr" else None
        objective = objective_of(c=case["c"], weight=weight, q=case["q"])
        k = 8.0 if case["mapping"] == "sigmoid" else 0.0
        losses = objective.loss(Given(mixture), State(), Pairs(y, t, r, noise, {}))
        return nearer(t, case["stage"], q=case["q"], k=k), losses.minimised, losses.logged

    named = {f"ect/loss/{case['name']}": case for case in cases(reference, "ect/loss_cases")}
    levels = {at: [reference[f"{at}/{n}"] for n in "tr"] for at in named}
    with jax.enable_x64(True):
        whole = jax.jit(lambda levels: {at: one(case, *levels[at]) for at, case in named.items()})
        found = whole(levels)
    for at, (below, minimised, logged) in found.items():
        case, (t, r) = named[at], levels[at]
        drawn = np.exp(case["P_mean"] + case["P_std"] * reference["ect/loss/n"])
        np.testing.assert_allclose(drawn, t, rtol=1e-13)
        np.testing.assert_allclose(below, r, rtol=1e-12, atol=1e-13)
        wanted = reference[f"{at}/loss"]
        np.testing.assert_allclose(minimised, wanted, rtol=1e-12, atol=1e-12, err_msg=at)
        np.testing.assert_array_equal(logged, minimised)


@pytest.mark.slow
def test_samples_are_the_reference_s(reference):
    mixture = ideal.mixture(*(reference[f"mixture/{n}"] for n in ("means", "stds", "weights")))
    latents, noise = (reference[f"ect/sample/{n}"] for n in ("latents", "noise"))
    tableaus = {
        case["name"]: samplers.consistency([*case["sigmas"], 0.0], sigma_min=0.0)
        for case in cases(reference, "ect/sample_cases")
        if case["net"] == "mixture"
    }

    @jax.jit
    def samples(latents):
        rows = lambda nfe: jnp.stack([latents, *noise[: nfe - 1], 0 * latents])
        return {
            name: samplers.sample(mixture, tableau, latents, row_noise=rows(tableau.nfe))
            for name, tableau in tableaus.items()
        }

    with jax.enable_x64(True):
        found = samples(latents)
    for name, drawn in found.items():
        wanted = reference[f"ect/sample/{name}"]
        np.testing.assert_allclose(drawn, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_arguments_reach_the_draws():
    y = np.zeros((64, 2), np.float32)

    def drawn(keys, stage, arguments):
        """What is drawn, and the two levels that it should have."""
        objective = objective_of(**arguments)
        state = State(kept=Stage(jnp.int32(stage), jnp.int32(0)))
        rest = {"p_mean": -1.1, "p_std": 2.0} | arguments
        mapping = {name: rest.pop(name) for name in ("q", "k", "b") if name in rest}
        levels = jax.vmap(objectives.log_normal(**rest))(keys[:, 0])
        found = objective.draw(state, keys, y, {"told": 1})
        return found, levels, nearer(levels, stage, **mapping)

    @jax.jit
    def all_drawn(key):
        keys = jax.random.split(key, (64, 2))
        changes = ({}, {"p_mean": 0.3}, {"p_std": 0.7}, {"q": 4.0}, {"k": 2.0}, {"b": 3.0})
        return [drawn(keys, stage, arguments) for arguments in changes for stage in (0, 3)]

    seen = []
    for found, t, r in all_drawn(jax.random.key(0)):
        np.testing.assert_array_equal(found.t, t)
        np.testing.assert_array_equal(found.r, r)
        assert (found.r < found.t).all() and found.conditions == {"told": 1}
        seen.append((*np.asarray(found.t), *np.asarray(found.r)))
    assert len(set(seen)) == 12


def test_a_stage_lasts_as_many_images_as_it_says():
    objective = objective_of(stage_kimg=0.02)
    examples, eight = None, objectives.Losses(*[jnp.zeros(8)] * 4)
    state, found = objective.init(), []
    for _ in range(6):
        state = objective.update(state, examples, eight, lambda tree: tree)
        found.append((int(state.kept.number), int(state.kept.images)))
    assert found == [(0, 8), (0, 16), (1, 4), (1, 12), (2, 0), (2, 8)]
    # Of several devices each sees a share, and the batch counts.
    four = lambda tree: jnp.tile(tree, 4)
    assert objective.update(objective.init(), examples, eight, four).kept == Stage(1, 12)
    endless = objective_of(stage_kimg=0.0)
    state = endless.update(endless.init(), examples, eight, four)
    assert state.kept == Stage(0, 0)


@pytest.mark.slow
def test_both_calls_see_one_dropout_and_the_second_no_gradient():
    seen = []

    def network(x, c_noise, keep):
        seen.append(keep)
        return keep * x

    model = lambda scale: Wrapped(lambda x, c, keep: scale * network(x, c, keep), EDM)
    rng = np.random.default_rng(0)
    y, n = (jnp.asarray(rng.standard_normal((5, 3)), jnp.float32) for _ in range(2))
    keep = jnp.asarray(rng.random((5, 3)) < 0.5, jnp.float32)
    t = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0])
    pairs = Pairs(y, t, t / 2, n, {"keep": keep})
    loss = lambda scale: objective_of().loss(model(scale), State(), pairs).minimised.sum()

    def by_hand(scale):
        denoise = model(scale).denoiser(keep=keep)
        target = model(0.7).denoiser(keep=keep)(y + t[:, None] / 2 * n, t / 2)
        gap = denoise(y + t[:, None] * n, t) - target
        return (jnp.sqrt((gap**2).sum(1)) / (t / 2)).sum()

    slope, wanted = jax.jit(lambda scale: (jax.grad(loss)(scale), jax.grad(by_hand)(scale)))(0.7)
    np.testing.assert_allclose(slope, wanted, rtol=1e-5)
    assert len(seen) == 4 and seen[0] is seen[1]


@pytest.mark.slow
def test_a_row_of_no_residual_and_a_row_that_meets_the_data_have_finite_gradients():
    y = np.ones((3, 4), np.float32)
    pairs = Pairs(y, jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 0.0, 1.5]), 0 * y, {})

    def loss(scale, c):
        # The network's logarithm of a level 0 would be infinite.
        model = Wrapped(lambda x, c_noise: (scale + 0 * c_noise[:, None]) * jnp.ones_like(x), EDM)
        pinned = Given(lambda x, s: jnp.where(s[:, None] == 1.0, y, model.denoiser()(x, s)))
        return objective_of(c=c).loss(pinned, State(), pairs).minimised

    @jax.jit
    def both(scale):
        return [(loss(scale, c), jax.jacobian(loss)(scale, c)) for c in (0.0, 0.03)]

    for each, slope in both(0.3):
        assert each[0] == 0 and (each[1:] > 0).all() and np.isfinite(slope).all()


def test_no_network_is_asked_at_level_0():
    asked = []
    model = Given(lambda x, sigma: asked.append(np.asarray(sigma)) or x)
    pairs = Pairs(np.ones((2, 3)), np.array([1.0, 2.0]), np.array([0.0, 1.5]), np.ones((2, 3)), {})
    objective_of().loss(model, State(), pairs)
    assert len(asked) == 2 and np.concatenate(asked).min() > 0


def linear(gain, mean=0.0):
    """D = mean + g(sigma) (x - mean)."""
    return Given(lambda x, sigma: mean + gain(sigma)[:, None] * (x - mean))


def fixed_point(gain_r, t, r):
    return gain_r * (STD**2 + r * t) / (STD**2 + t**2)


@pytest.mark.slow
def test_the_gradient_is_zero_at_the_fixed_point_of_gaussian_data():
    """There the residual is independent of x_t: the batch has every residual with x_t and -x_t."""
    rng = np.random.default_rng(1)
    t = np.tile([0.5, 1.0, 3.0, 10.0, 80.0], 8)
    with jax.enable_x64(True):
        r = np.asarray(jax.jit(lambda t: nearer(t, 1))(t))
    g_r = STD / np.sqrt(STD**2 + r**2)
    x_t = rng.standard_normal((40, 6)) * np.sqrt(STD**2 + t**2)[:, None]
    other = rng.standard_normal((40, 6))  # what of (y, n) is independent of x_t
    v, side = (STD**2 + t**2)[:, None], t[:, None]

    def pairs(sign):
        y = STD**2 / v * sign * x_t + STD * side / np.sqrt(v) * other
        noise = side / v * sign * x_t - STD / np.sqrt(v) * other
        return Pairs(y, t, r, noise, {})

    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), pairs(1.0), pairs(-1.0))

    def minimised(gain_t, c):
        # r = 0 is asked at 1, and the answer not used.
        gain = lambda s: jnp.where(s == both.t, gain_t, np.tile(g_r, 2))
        return objective_of(c=c).loss(linear(gain), State(), both).minimised.sum()

    @jax.jit
    def slopes(gain_t):
        return [jax.grad(minimised)(gain_t, c).reshape(2, 40).sum(0) for c in (0.0, 0.1)]

    with jax.enable_x64(True):
        at_fixed_point, at_exact = (
            np.array(slopes(np.tile(gain_t, 2)))
            for gain_t in (
                fixed_point(np.where(r > 0, g_r, 1.0), t, r),
                STD / np.sqrt(STD**2 + t**2),
            )
        )
    # That of exact consistency is not zero: so distant pairs teach something else.
    assert np.abs(at_exact).min() > 1e-4
    assert np.abs(at_fixed_point / at_exact).max() < 1e-6


def chain(t, stage, q=2.0):
    """The levels t > r(t) > r(r(t)) > ..., to 0 or as good as that."""
    levels = [t]
    while levels[-1] > 1e-9:
        t = levels[-1]
        levels.append(max(0.0, t * (1 - (1 + 8 / (1 + np.exp(t))) / q ** (stage + 1))))
    return np.array([*levels[:-1], 0.0])


@pytest.mark.parametrize(
    "mapping, ratio, digits",
    [
        ({"stage": 0}, 0.597, 3),
        ({"stage": 3}, 0.937, 3),
        ({"stage": 0, "q": 256.0}, 0.9963, 4),
        ({"stage": 0, "q": 4096.0}, 0.99977, 5),
    ],
    ids=str,
)
def test_the_fixed_point_is_a_chain_of_euler_steps_and_near_the_exact_one(mapping, ratio, digits):
    levels, gain = chain(80.0, **mapping), 1.0
    for t, r in zip(levels[-2::-1], levels[:0:-1]):
        gain = fixed_point(gain, t, r)
    assert gain * np.sqrt(STD**2 + 80.0**2) / STD == pytest.approx(ratio, abs=0.6 * 10**-digits)
    if len(levels) < 1000:
        euler = samplers.euler(levels)
        _, variance = samplers.moments(euler, 0.0, STD**2)
        np.testing.assert_allclose(np.sqrt(variance), 80.0 * gain, rtol=1e-12)


@pytest.mark.slow
def test_a_linear_denoiser_learns_the_chain():
    """A gain for each level, by gradient descent, on data whose moments are the distribution's."""
    levels = chain(4.0, stage=1)
    count = len(levels) - 1
    # Two orthogonal columns: y and n of unit variance and without correlation, at every level.
    basis = np.linalg.qr(np.random.default_rng(2).standard_normal((64, 2)))[0] * 8.0
    y, noise = (basis[:, i].reshape(1, 32, 2) for i in range(2))
    rows = lambda a: jnp.asarray(np.broadcast_to(a, (count, 32, 2)).reshape(-1, 2), jnp.float32)
    index = jnp.repeat(jnp.arange(count), 32)
    table = jnp.asarray(levels, jnp.float32)
    pairs = Pairs(STD * rows(y), table[index], table[index + 1], rows(noise), {})
    objective = objective_of(c=1e3, weight="epsilon")  # so wide, the norm is the squared error

    def minimised(gains):
        at = lambda sigma: gains[jnp.abs(sigma[:, None] - table[:-1]).argmin(1)]
        return 2e3 * objective.loss(linear(at), State(), pairs).minimised.sum()

    @jax.jit
    def descend(gains):
        v = (STD**2 + table[:-1] ** 2) / table[:-1] ** 2
        step = lambda g, _: (g - jax.grad(minimised)(g) / (2 * 64 * v), None)
        return jax.lax.scan(step, gains, length=3 * count)[0]

    found, wanted = descend(jnp.zeros(count)), [1.0]
    for t, r in zip(levels[-2::-1], levels[:0:-1]):
        wanted.append(fixed_point(wanted[-1], t, r))
    assert count > 4
    np.testing.assert_allclose(found, wanted[:0:-1], rtol=1e-4)


@pytest.mark.slow
def test_the_spread_of_samples_in_one_and_two_calls_is_predicted():
    """In `moments` with the gains of a stage, and by the samples of its linear denoiser."""
    gains = dict.fromkeys((80.0, 0.821), 1.0)
    for t in gains:
        levels = chain(t, stage=2)
        for level, below in zip(levels[-2::-1], levels[:0:-1]):
            gains[t] = fixed_point(gains[t], level, below)
    mean, first, second = 0.3, gains[80.0], gains[0.821]
    one = (80.0 * first) ** 2
    for levels, variance in (
        ([80.0, 0.0], one),
        ([80.0, 0.821, 0.0], second**2 * (one + 0.821**2)),
    ):
        tableau = samplers.consistency(levels, sigma_min=0.0)
        found = samplers.moments(tableau, mean, STD**2, gain=lambda s: gains[float(s)])
        np.testing.assert_allclose(found[1], variance, rtol=1e-12)

        @jax.jit
        def sampled(key):
            keys = jax.random.split(key, 4096)
            gain = lambda s: jnp.where(s > 1, first, second) * jnp.ones(4096)
            noise = jax.random.normal(jax.random.fold_in(key, 1), (4096, 4))
            return samplers.sample(linear(gain, mean).denoiser(), tableau, noise, keys)

        drawn = np.asarray(sampled(jax.random.key(0)), np.float64)
        np.testing.assert_allclose(drawn.mean(), found[0], atol=4 * np.sqrt(variance / 16384))
        np.testing.assert_allclose(drawn.var() / variance, 1, atol=4 * np.sqrt(2 / 16384))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"q": 1.0}, r"q must lie in \(1.0, inf\], got 1.0"),
        ({"k": -1.0}, r"k must lie in \[0.0, inf\], got -1.0"),
        ({"b": 0.0}, "b must be positive and finite, got 0.0"),
        ({"c": -1.0}, r"c must lie in \[0.0, inf\], got -1.0"),
        ({"p_std": 0.0}, "p_std must be positive and finite, got 0.0"),
        ({"stage_kimg": -1.0}, r"stage_kimg must lie in \[0.0, .*\], got -1.0"),
        ({"weight": "edn"}, "weight must be one of .*, got 'edn'; did you mean 'edm'"),
        ({"weight_arguments": {"limit": 2.0}}, "weight_arguments must be empty"),
        ({"stages": 8}, "the arguments of 'ect' must be among .*stage_kimg, got 'stages'"),
    ],
    ids=str,
)
def test_bad_arguments_of_tuning_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        objective_of(**arguments)


def test_a_weight_for_each_channel_is_refused():
    model = Given(None)
    model.preconditioner = preconditioning.edm([0.5, 0.4])
    with pytest.raises(ValueError, match="weight must be one number at a level"):
        objectives.build("ect", model, weight="edm")
