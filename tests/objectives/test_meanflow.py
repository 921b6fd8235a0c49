"""MeanFlow against the reference, and on Gaussian data, where the mean velocity is known."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, objectives, preconditioning, samplers
from edm_jax.objectives import Jumps, State, Wrapped

MEAN, STD = 0.3, 0.4
FLOW = preconditioning.flow()


@pytest.fixture(scope="module")
def reference(golden):
    with jax.enable_x64(True):
        yield {k.removeprefix("meanflow/"): v for k, v in golden("few_steps.npz").items()}


def made(model, **arguments):
    return objectives.build("meanflow", model, **arguments)


def level(t):
    """sigma of a time."""
    return t / (1 - t)


def drawn(arrays, case, at):
    """The two ends of a case's jumps, as times."""
    times = [
        level(1 / (1 + np.exp(-(case[n][0] + case[n][1] * arrays[f"{at}/n{n}"])))) for n in "tr"
    ]
    order = {"v0": "sorted", "v1": "least"}[case["order"]]
    found = objectives.ends(*times, arrays[f"{at}/u"], ratio=case["ratio"], order=order)
    return [np.asarray(s / (1 + s)) for s in found]


def test_jumps_begin_and_end_where_the_reference_s_do(reference):
    for case in json.loads(str(reference["time_cases"])):
        for found, n in zip(drawn(reference, case, "time"), "tr"):
            np.testing.assert_allclose(found, reference[f"time/{case['name']}/{n}"], rtol=1e-12)


def perceptron(weights):
    """u = W2 tanh(W1 [z, t, t - r] + b1) + b2."""

    def network(z, t, jump):
        given = [z.reshape(len(z), -1), t[:, None], jump[:, None]]
        hidden = jnp.tanh(jnp.concatenate(given, axis=1) @ weights["W1"].T + weights["b1"])
        return (hidden @ weights["W2"].T + weights["b2"]).reshape(z.shape)

    return network


def mean_velocity(mean, std):
    """u(z; r, t) for data N(mean, std^2), without the 0 / 0 at r = t."""

    def u(z, t, jump):
        spread = lambda t: jnp.sqrt((1 - t) ** 2 * std**2 + t**2)
        t, r = (a.reshape(-1, *[1] * (z.ndim - 1)) for a in (t, t - jump))
        slope = (1 + std**2) * (t + r) - 2 * std**2
        slope /= spread(t) * (spread(t) + spread(r))
        return -mean + slope * (z - (1 - t) * mean)

    return u


@pytest.mark.slow
def test_losses_gradients_and_samples_are_the_reference_s(reference):
    weights = {n: jnp.asarray(reference[f"mlp/{n}"]) for n in ("W1", "b1", "W2", "b2")}
    exact = Wrapped(mean_velocity(reference["gaussian/mean"], reference["gaussian/std"]), FLOW)
    cases = {case["name"]: case for case in json.loads(str(reference["loss_cases"]))}
    for case in (cases[name] for name in ("gaussian", "mlp", "mlp-v0-p0.5")):
        given = {
            k.removeprefix(f"loss/{case['name']}/"): jnp.asarray(v)
            for k, v in reference.items()
            if k.startswith(f"loss/{case['name']}/")
        }
        times = zip(drawn(reference, case, "loss"), "tr")
        sigma, rho = (level(t) for t, _ in times)
        np.testing.assert_allclose(rho, level(given["r"]), rtol=1e-12)
        data = [jnp.asarray(reference[f"loss/{n}"]) for n in "xe"]
        jumps = Jumps(data[0], sigma, rho, data[1], {})
        of_data = case["net"] == "gaussian"
        objective = made(exact, p=case["p"], epsilon=case["eps"])

        def mean(weights, of_data=of_data, objective=objective, jumps=jumps):
            model = exact if of_data else Wrapped(perceptron(weights), FLOW)
            found = objective.loss(model, State(), jumps)
            return found.minimised.mean(), found

        slopes, found = jax.jit(jax.grad(mean, has_aux=True))(weights)
        np.testing.assert_allclose(found.minimised, given["loss"], rtol=1e-11)
        np.testing.assert_allclose(found.each * 4, given["squared"], rtol=1e-11)
        for name, slope in slopes.items():
            wanted = 0 * slope if of_data else given[f"grad/{name}"]
            np.testing.assert_allclose(slope, wanted, rtol=1e-10, atol=1e-13)
    # From pure noise, in one call; nothing else is left at so high a level.
    noise, high = jnp.asarray(reference["sample/noise"]), 1e9
    for name, model in (("gaussian", exact), ("mlp", Wrapped(perceptron(weights), FLOW))):
        x0 = jax.jit(lambda x: model.flow_map()(x, high, 0.0))(high * noise)
        np.testing.assert_allclose(x0, reference[f"sample/{name}"], atol=1e-7)


def exactly(row):
    """The network that makes the exact flow map of the data out of a preconditioner."""

    def network(x_in, c_noise, jump):
        sigma = c_noise / (1 - c_noise) if row is FLOW else jnp.exp(4 * c_noise)
        t, column = sigma / (1 + sigma), sigma.reshape(-1, 1)
        x = x_in / row.c_in(column)
        z = x / (1 + column)
        x0 = z - t[:, None] * mean_velocity(MEAN, STD)(z, t, jump)
        return (x0 - row.c_skip(column) * x) / row.c_out(column)

    return Wrapped(network, row)


# Jumps of all lengths, to the data and of no length at all.
SIGMA = np.array([0.05, 0.5, 0.5, 3.0, 80.0, 80.0])
RHO = np.array([0.02, 0.5, 0.0, 1.0, 0.0, 79.0])


def given_x(sign, x, other):
    """Data and noise at the points x of SIGMA: their means given x, and sign times a deviation."""
    s, variance = SIGMA[:, None], STD**2 + SIGMA[:, None] ** 2
    root = sign * STD / np.sqrt(variance) * other
    y = MEAN + STD**2 / variance * (x - MEAN) + s * root
    return y, s / variance * (x - MEAN) - root


@pytest.mark.parametrize("row", [FLOW, preconditioning.edm()], ids=["flow", "edm"])
def test_the_identity_holds_at_the_exact_mean_velocity(row):
    model, rng = exactly(row), np.random.default_rng(0)
    x = MEAN + np.sqrt(STD**2 + SIGMA[:, None] ** 2) * rng.standard_normal((6, 3))
    other = rng.standard_normal((6, 3))

    @jax.jit
    def run(means, both):
        objective = made(model, p=0.75)
        jumps = lambda y, n: Jumps(y, *(jnp.tile(a, len(y) // 6) for a in (SIGMA, RHO)), n, {})
        at_means = objective.loss(model, State(), jumps(*means)).minimised

        def minimised(change):
            shifted = lambda x, c, jump: model.network(x, c, jump) + change
            found = objective.loss(Wrapped(shifted, row), State(), jumps(*both))
            return found.minimised.sum(), found.each

        slope, each = jax.grad(minimised, has_aux=True)(jnp.zeros((12, 3)))
        return at_means, slope, each, model.flow_map()(x, SIGMA, RHO)

    with jax.enable_x64(True):
        twice = zip(given_x(1.0, x, other), given_x(-1.0, x, other))
        found = run(given_x(0.0, x, other), [np.concatenate(pair) for pair in twice])
        at_means, slope, each, x0 = map(np.asarray, found)
    # Where data and noise are what they are in the mean, v is the flow's own velocity.
    assert at_means.max() < 1e-10
    # Otherwise there is a loss, and over two deviations that cancel it has no slope.
    assert each.min() > 1e-4 and np.abs(slope).min(axis=1).max() > 1e-2
    assert np.abs(slope[:6] + slope[6:]).max() < 1e-9
    # Jumps end on the path of the flow.
    ends = RHO[:, None] / SIGMA[:, None] * x + (1 - RHO / SIGMA)[:, None] * x0
    scale = np.sqrt((STD**2 + RHO**2) / (STD**2 + SIGMA**2))[:, None]
    np.testing.assert_allclose(ends, MEAN + scale * (x - MEAN), rtol=1e-9)
    ideally = ideal.gaussian(MEAN, STD)(x[1:2], SIGMA[1])
    np.testing.assert_allclose(x0[1:2], ideally, rtol=1e-6)


@pytest.mark.slow
def test_a_linear_model_learns_it():
    """u = a(t, r) z with a polynomial a, by Newton's method for a held target."""
    model = lambda a: Wrapped(lambda z, t, jump: a(t, t - jump)[:, None] * z, FLOW)
    objective = made(model(lambda t, r: t), p=0.0)
    powers = [(i, j) for i in range(9) for j in range(9 - i)]
    t = np.repeat(np.linspace(0.2, 0.95, 16), 16)
    r = 0.2 + (t - 0.2) * np.tile(np.linspace(0.0, 1.0, 16), 16)
    basis = lambda t, r: jnp.stack([(2 * t - 1) ** i * (2 * r - 1) ** j for i, j in powers], axis=1)
    sigma, unit = level(t), np.ones((256, 1))
    variance = (STD**2 + sigma**2)[:, None]
    # z = 1 everywhere, with data and noise as they are there in the mean.
    y, n = (c * (1 + sigma)[:, None] / variance * unit for c in (STD**2, sigma[:, None]))
    jumps = Jumps(y, sigma, level(r), n, {})

    @jax.jit
    def descend(matrix):
        def minimised(w):
            found = objective.loss(model(lambda t, r: basis(t, r) @ w), State(), jumps)
            return found.minimised.sum(), found.each.max()

        def newton(w, _):
            slope, worst = jax.grad(minimised, has_aux=True)(w)
            return w - 0.1 * matrix @ slope, worst

        return jax.lax.scan(newton, jnp.zeros(len(powers)), length=300)

    with jax.enable_x64(True):
        design = np.asarray(basis(t, r))
        w, worst = descend(np.linalg.pinv(2 * design.T @ design))
        wanted = np.asarray(mean_velocity(0.0, STD)(unit, t, t - r))[:, 0]
        found = np.asarray(design @ w)
    assert worst[0] > 1.0 and worst[-1] < 1e-7
    np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_draws_are_of_their_distributions():
    model = exactly(FLOW)
    y = np.zeros((4096, 1), np.float32)
    objective = made(model, p_mean=-1.0, p_std=0.5, end_mean=-2.0, end_std=0.7, ratio=0.6)

    @jax.jit
    def draw(key):
        keys = jax.random.split(key, (4096, 2))
        return objective.draw(objective.init(), keys, y, {"told": 1})

    found = draw(jax.random.key(0))
    logs = np.log(np.asarray(found.sigma))
    assert logs.mean() == pytest.approx(-1.0, abs=0.03) and logs.std() == pytest.approx(
        0.5, abs=0.02
    )
    sigma, rho = np.asarray(found.sigma), np.asarray(found.rho)
    shorter = rho < sigma
    assert (rho <= sigma).all() and found.conditions == {"told": 1}
    # P(ln rho < ln sigma) of the two laws, times the ratio.
    higher = 0.5 * (1 + math.erf(1.0 / np.hypot(0.5, 0.7) / 2**0.5))
    assert shorter.mean() == pytest.approx(0.6 * higher, abs=0.03)
    assert np.asarray(found.noise).std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
def test_samples_in_two_calls_have_the_spread_of_the_data():
    denoise = lambda x, sigma: exactly(FLOW).flow_map()(x, sigma, 0.0)
    tableau = samplers.consistency([80.0, 0.6, 0.0], sigma_min=0.0)
    gain = lambda sigma: STD / np.hypot(STD, sigma)
    mean, variance = samplers.moments(tableau, MEAN, STD**2, gain=gain)

    @jax.jit
    def run(key):
        noise = jax.random.normal(jax.random.fold_in(key, 1), (4096, 4))
        return samplers.sample(denoise, tableau, noise, jax.random.split(key, 4096))

    drawn = np.asarray(run(jax.random.key(0)))
    np.testing.assert_allclose(drawn.mean(), mean, atol=4 * STD / 128)
    np.testing.assert_allclose(drawn.var() / variance, 1, atol=4 * np.sqrt(2 / 16384))
    assert variance == pytest.approx(STD**2, rel=1e-3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"ratio": 1.5}, r"ratio must lie in \[0.0, 1.0\], got 1.5"),
        ({"order": "v0"}, "order must be one of least, sorted, got 'v0'"),
        ({"p": -1.0}, r"p must lie in \[0.0, inf\], got -1.0"),
        ({"epsilon": 0.0}, "epsilon must be positive and finite, got 0.0"),
        ({"end_std": 0.0}, "p_std must be positive and finite, got 0.0"),
        ({"weight": "edm"}, "the arguments of 'meanflow' must be among .*epsilon, got 'weight'"),
    ],
    ids=str,
)
def test_bad_arguments_of_meanflow_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(exactly(FLOW), **arguments)
