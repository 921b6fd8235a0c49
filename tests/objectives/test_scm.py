"""Continuous-time consistency against the reference, and on Gaussian data, where F is known."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import objectives, preconditioning, samplers
from edm_jax.objectives import Examples, State, Wrapped
from edm_jax.objectives.scm import Kept

SD = 0.5
TRIGFLOW = preconditioning.trigflow(SD)


@pytest.fixture(scope="module")
def reference(golden):
    with jax.enable_x64(True):
        yield {k.removeprefix("scm/"): v for k, v in golden("few_steps.npz").items()}


class Perceptron(dict):
    """W2 tanh(W1 [x, t] + b1) + b2 as a model."""

    log_variance = None

    def __init__(self, arrays, preconditioner=TRIGFLOW):
        super().__init__(arrays)
        self.preconditioner = preconditioner

    def prediction(self, **conditions):
        def network(x, t):
            inner = jnp.concatenate([x.reshape(len(x), -1), t[:, None]], axis=1)
            hidden = jnp.tanh(inner @ self["W1"].T + self["b1"])
            return (hidden @ self["W2"].T + self["b2"]).reshape(x.shape)

        return network


def perceptron(arrays, name, row=TRIGFLOW):
    read = {n: jnp.asarray(arrays[f"{name}/{n}"]) for n in ("W1", "b1", "W2", "b2")}
    return Perceptron(read, row)


def made(model, **arguments):
    return objectives.build("scm", model, **arguments)


def state_at(share, teacher=()):
    """That of a warm-up of 1,000 images, so far in it."""
    return State((), Kept(jnp.int32(round(1000 * share)), teacher))


@pytest.mark.slow
def test_losses_and_gradients_are_the_reference_s(reference):
    for case in json.loads(str(reference["loss_cases"])):
        if case.get("form") == "rcm":  # of another warm-up
            continue
        student = perceptron(reference, "mlp")
        teacher = perceptron(reference, "teacher") if case["teacher"] else None
        objective = made(
            student, teacher=teacher, warmup_kimg=1.0, norm=case["norm"],
            weight={"one": "x0", "1/sigma": None}[case["weight"]],
        )  # fmt: skip
        state = state_at(case["r"], teacher or ())
        sigma = jnp.exp(case["P_mean"] + case["P_std"] * jnp.asarray(reference["n"]))
        data = [jnp.asarray(reference[n]) for n in ("x0", "z")]
        examples = Examples(data[0], sigma, data[1], {})
        t = jnp.arctan(sigma / SD)

        @jax.jit
        @jax.value_and_grad
        def mean(trained):
            found = objective.loss(Perceptron(trained["net"]), state, examples)
            u = trained["wl"][0] + trained["wl"][1] * t
            return (found.minimised * jnp.exp(-u) + u).mean()

        given = {k.removeprefix(f"loss/{case['name']}/"): v for k, v in reference.items()}
        np.testing.assert_allclose(t, given["t"], rtol=1e-13)
        found, slope = mean({"net": dict(student), "wl": jnp.asarray(reference["mlp/wl"])})
        np.testing.assert_allclose(found, given["mean"], rtol=1e-13, err_msg=case["name"])
        for name, wanted in {**slope["net"], "wl": slope["wl"]}.items():
            expected = given[f"grad/{name}"]
            np.testing.assert_allclose(wanted, expected, rtol=1e-11, atol=1e-13, err_msg=name)


def test_images_in_one_and_two_calls_are_the_reference_s(reference):
    """It leaves out the first call's cos t x_t, a part of .0063."""
    network = perceptron(reference, "mlp").prediction()
    denoise = preconditioning.denoiser(network, TRIGFLOW)
    (first, second), t = reference["sample/noise"], 1.56454
    scale = SD * first
    found = denoise(scale / np.cos(t), SD * np.tan(t))
    one = (found - np.cos(t) * scale) / np.sin(t)
    np.testing.assert_allclose(one, reference["sample/one"], rtol=0, atol=1e-13)
    sigma = SD * np.tan(1.1)
    last = samplers.consistency([sigma, 0.0], sigma_min=0.0)
    two = samplers.sample(denoise, last, start=one + sigma * second)
    np.testing.assert_allclose(two, reference["sample/two"], rtol=0, atol=1e-13)


def test_the_tangent_of_the_other_form_is_the_reference_s(reference):
    """rCM's, of data of unit deviation; it adds the elements up, and weighs none."""
    row = preconditioning.trigflow(1.0)
    student, teacher = (perceptron(reference, name, row) for name in ("mlp", "teacher"))
    objective = made(student, teacher=teacher, warmup_kimg=1.0, form="rcm", weight="x0")
    sigma = jnp.tan(jnp.asarray(reference["loss/rcm-0/t"]))
    examples = Examples(jnp.asarray(reference["x0"]) / 0.5, sigma, jnp.asarray(reference["z"]), {})

    @jax.jit
    def total(trained, share):
        state = State((), Kept(jnp.round(1000 * share).astype(jnp.int32), teacher))
        found = objective.loss(Perceptron(trained, row), state, examples).minimised * 4
        return found.sum(), found

    slope = jax.grad(total, has_aux=True)
    for share in (0.0, 0.5, 1.0):
        given = {n: reference[f"loss/rcm-{share:g}/{n}"] for n in ("loss", "grad/W1", "grad/b2")}
        grads, each = slope(dict(student), share)
        np.testing.assert_allclose(each, given["loss"], rtol=1e-13)
        for name in ("W1", "b2"):
            wanted = given[f"grad/{name}"]
            np.testing.assert_allclose(grads[name], wanted, rtol=1e-11, atol=1e-13)


def exact(mean, std, row=TRIGFLOW, sign=1.0):
    """The consistency function of N(mean, std^2), and the flow's velocity as a teacher."""
    angle = lambda c_noise: c_noise if row is TRIGFLOW else jnp.arctan(jnp.exp(4 * c_noise) / SD)

    def parts(x_in, c_noise):
        t = angle(c_noise)[:, None]
        cos, sin, x_t = jnp.cos(t), jnp.sin(t), SD * x_in
        variance = (std * cos) ** 2 + (SD * sin) ** 2
        return cos, sin, x_t, variance

    def consistent(x_in, c_noise):
        cos, sin, x_t, variance = parts(x_in, c_noise)
        f = mean + std * (x_t - cos * mean) / jnp.sqrt(variance)
        return sign * (cos * x_t - f) / (SD * sin)

    def velocity(x_in, c_noise):
        cos, sin, x_t, variance = parts(x_in, c_noise)
        v = -sin * mean + cos * sin * (SD**2 - std**2) / variance * (x_t - cos * mean)
        return sign * v / SD

    return Wrapped(consistent, row), Wrapped(velocity, row)


def pairs(mean, std, sigma):
    """Examples of every x_t twice: v above and below its mean given x_t by the same amount."""
    rng = np.random.default_rng(0)
    x, other = (jnp.asarray(rng.standard_normal((len(sigma), 6))) for _ in range(2))
    s = sigma[:, None]
    variance = std**2 + s**2
    noise = lambda sign: s / jnp.sqrt(variance) * x - sign * std / jnp.sqrt(variance) * other
    y = lambda sign: std**2 / jnp.sqrt(variance) * x + sign * std * s / jnp.sqrt(variance) * other
    twice = lambda make: jnp.concatenate([make(1.0), make(-1.0)])
    return Examples(mean + twice(y), jnp.tile(sigma, 2), twice(noise), {})


ROWS = {
    "trigflow": (TRIGFLOW, 1.0),
    "edm": (preconditioning.edm(SD), -1.0),
    "consistency": (preconditioning.consistency(SD, sigma_min=0.0, noise_scale=0.25), -1.0),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("mean, std", [(0.3, 0.8), (0.0, SD)], ids=["shifted", "own"])
def test_the_tangent_is_zero_at_the_consistency_function_of_gaussian_data(name, mean, std):
    row, sign = ROWS[name]
    student, teacher = exact(mean, std, row, sign)
    distil = made(student, teacher=teacher, warmup_kimg=1.0, norm="l2")
    train = made(student, warmup_kimg=0.0, norm="rms", weight="x0")

    @jax.jit
    def run(t):
        examples = pairs(mean, std, SD * jnp.tan(t))
        whole, half = (
            distil.loss(student, state_at(share, teacher), examples).each for share in (1.0, 0.5)
        )

        def minimised(change):
            shifted = lambda x, c: student.network(x, c) + change
            found = train.loss(Wrapped(shifted, row), train.init(), examples)
            return found.minimised.sum(), found.each

        slope, each = jax.grad(minimised, has_aux=True)(jnp.zeros((10, 6)))
        return whole, half, slope.reshape(2, 5, 6).sum(0), each

    with jax.enable_x64(True):
        found = run(jnp.array([0.01, 0.3, 0.8, 1.3, 1.5645]))
        whole, half, slope, each = map(np.asarray, found)
    assert whole.max() < 1e-16 and half.max() > 1e-3
    # Of one example the tangent is not zero; over its two it is, so the loss has no slope.
    assert np.abs(slope).max() < 1e-9 and each.min() > 1e-6


@pytest.mark.slow
def test_of_data_as_wide_as_the_network_takes_them_f_is_a_tangent():
    student, _ = exact(0.0, SD)
    x_t, t = np.ones((1, 6)), np.array([0.7])
    np.testing.assert_allclose(student.network(x_t / SD, t), -np.tan(0.35) / SD * x_t, rtol=1e-5)


@pytest.mark.slow
def test_a_linear_network_learns_it():
    """F = a(t) x with a polynomial a, by Newton's method for a held tangent; a is -tan(t / 2)."""
    student, still = exact(0.0, SD)  # the flow stands still: a teacher of 0
    objective = made(student, teacher=still, warmup_kimg=0.0, weight="x0")

    @jax.jit
    def descend(t):
        basis = lambda t: jnp.stack([(t / 1.5) ** k for k in (1, 3, 5, 7)], axis=1)
        # So small that the normalised tangent is ten times the tangent.
        y = 1e-3 / jnp.cos(t)[:, None] * jnp.ones((1, 2))
        examples = Examples(y, SD * jnp.tan(t), 0 * y, {})

        def minimised(w):
            model = Wrapped(lambda x, t: (basis(t) @ w)[:, None] * x, TRIGFLOW)
            return objective.loss(model, objective.init(), examples).minimised.sum()

        curvature = 2 * (1e-3 / SD) ** 2 * basis(t).T @ basis(t)
        newton = lambda w, _: (w - 0.02 * jnp.linalg.solve(curvature, jax.grad(minimised)(w)), None)
        return basis(t) @ jax.lax.scan(newton, jnp.zeros(4), length=600)[0]

    with jax.enable_x64(True):
        t = jnp.linspace(0.02, 1.5, 60)
        np.testing.assert_allclose(descend(t), -jnp.tan(t / 2), atol=1e-4)


@pytest.mark.parametrize("name", ["trigflow", "edm"])
def test_the_derivative_is_that_of_differences(name):
    """cos t sin t dF/dt along the path, and so the whole tangent, near both ends."""
    row, sign = ROWS[name]
    network = lambda x, c: sign * jnp.sin(3 * x + c[:, None]) + sign * x**2
    model, angles = Wrapped(network, row), np.array([0.01, 0.7, 1.5645])
    objective = made(model, warmup_kimg=0.0)
    y, n = (np.random.default_rng(seed).standard_normal((3, 4)) for seed in range(2))

    def f(t):
        c = t if name == "trigflow" else np.log(SD * np.tan(t)) / 4
        cos, sin = np.cos(t)[:, None], np.sin(t)[:, None]
        x_t = cos * y + sin * SD * n
        return cos * x_t - sin * SD * sign * np.asarray(network(x_t / SD, c))

    with jax.enable_x64(True):
        examples = Examples(y, SD * np.tan(angles), n, {})
        each = jax.jit(lambda e: objective.loss(model, objective.init(), e).each)(examples)
        h = 1e-5 * np.minimum(angles, np.pi / 2 - angles)
        slope = (f(angles + h) - f(angles - h)) / (2 * h[:, None])
    # g is cos t df/dt, up to its sign.
    np.testing.assert_allclose(each, np.cos(angles) ** 2 * (slope**2).mean(1), rtol=1e-6)


def test_the_warm_up_counts_images_and_stops():
    model = Wrapped(lambda x, c: x, TRIGFLOW)
    objective, losses = made(model, warmup_kimg=0.02), objectives.Losses(*[jnp.zeros(8)] * 4)
    state, found = objective.init(), []
    for _ in range(4):
        state = objective.update(state, None, losses, lambda tree: tree)
        found.append(int(state.kept.images))
    assert found == [8, 16, 20, 20]
    examples = Examples(np.ones((8, 3)), np.linspace(0.1, 5.0, 8), np.ones((8, 3)), {})
    at_once = made(model, warmup_kimg=0.0)
    each = jax.jit(lambda images: objective.loss(model, State((), Kept(images, ())), examples).each)
    halfway, whole = each(jnp.int32(10)), each(jnp.int32(20))
    wanted = jax.jit(lambda: at_once.loss(model, at_once.init(), examples).each)()
    np.testing.assert_allclose(whole, wanted, rtol=1e-6)
    assert (np.abs(halfway - whole) > 1e-3).any()


def test_a_teacher_has_no_dropout_and_the_student_the_conditions():
    seen = []

    def network(name):
        return lambda x, c, **told: seen.append((name, sorted(told))) or x

    class Teacher(dict):
        preconditioner = TRIGFLOW

        def prediction(self, **conditions):
            return Wrapped(network("teacher"), TRIGFLOW).prediction(**conditions)

    student, teacher = Wrapped(network("student"), TRIGFLOW), Teacher()
    told = {"dropout_keys": jnp.zeros(2), "class_labels": jnp.ones((2, 3))}
    examples = Examples(jnp.ones((2, 3)), jnp.ones(2), jnp.ones((2, 3)), told)
    objective = made(student, teacher=teacher)
    jax.eval_shape(lambda: objective.loss(student, objective.init(), examples))
    assert seen == [("teacher", ["class_labels"]), ("student", sorted(told))]


@pytest.mark.parametrize(
    "row, arguments, message",
    [
        (TRIGFLOW, {"norm": "l1"}, "norm must be one of l2, rms, got 'l1'"),
        (TRIGFLOW, {"form": "rms"}, "form must be one of scm, rcm, got 'rms'"),
        (TRIGFLOW, {"weight": "one"}, "weight must be one of .*, got 'one'"),
        (TRIGFLOW, {"warmup_kimg": -1.0}, r"warmup_kimg must lie in \[0.0, .*\], got -1.0"),
        (
            TRIGFLOW,
            {"teacher": exact(0.0, 1.0, preconditioning.edm(1.0))[1]},
            "teacher must have the sigma_data of the model, 0.5, got 1.0",
        ),
        (preconditioning.flow(), {}, "preconditioner must be 'edm' or 'trigflow'"),
        (preconditioning.consistency(), {}, "preconditioner must be .*got one of sigma_min 0.002"),
        (preconditioning.edm([0.5, 0.4]), {}, "preconditioner must be .* of one sigma_data"),
        (TRIGFLOW, {"teacher": Wrapped(None, preconditioning.flow())}, "preconditioner must be"),
    ],
)
def test_bad_arguments_of_scm_are_named(row, arguments, message):
    with pytest.raises(ValueError, match=message):
        made(Wrapped(lambda x, c: x, row), **arguments)
