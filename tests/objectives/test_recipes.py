"""Every argument of a named objective reaches what it is for."""

import numpy as np
import pytest

from edm_jax import objectives, preconditioning, tables
from edm_jax.objectives import Wrapped

U = np.array([0.01, 0.3, 0.7, 0.99], np.float32)
SIGMA = np.array([0.002, 0.5, 3.0, 80.0])
EDM = preconditioning.edm()
WITHOUT_SIGMA_DATA = preconditioning.epsilon()


@pytest.mark.parametrize(
    "name, arguments, noise",
    [
        ("edm", {"p_mean": -0.4, "p_std": 1.5}, objectives.log_normal(-0.4, 1.5)),
        (
            "karras",
            {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 5.0},
            objectives.karras(sigma_min=0.01, sigma_max=50.0, rho=5.0),
        ),
        ("flow", {"p_mean": -0.4, "p_std": 1.5}, objectives.log_normal(-0.4, 1.5)),
        (
            "vp",
            {"beta_d": 10.0, "beta_min": 0.2, "epsilon_t": 1e-3},
            objectives.vp(beta_d=10.0, beta_min=0.2, epsilon_t=1e-3),
        ),
        (
            "ve",
            {"sigma_min": 0.01, "sigma_max": 50.0},
            objectives.ve(sigma_min=0.01, sigma_max=50.0),
        ),
        (
            "iddpm",
            {"num_train_steps": 50, "c_1": 0.01, "c_2": 0.02},
            objectives.iddpm(num_train_steps=50, c_1=0.01, c_2=0.02),
        ),
        (
            "ddpm",
            {"betas": "cosine", "num_train_steps": 50},
            objectives.discrete(tables.sigmas(tables.alphas_cumprod("cosine", num_train_steps=50))),
        ),
        (
            "v",
            {"sigma_min": 0.01, "sigma_max": 50.0, "sigma_data": 0.5},
            objectives.cosine(sigma_min=0.01, sigma_max=50.0, sigma_data=0.5),
        ),
    ],
)
def test_arguments_reach_the_noise_levels(name, arguments, noise):
    row = WITHOUT_SIGMA_DATA
    found = objectives.recipe(name, row, **arguments).noise.quantile(U)
    np.testing.assert_array_equal(found, noise.quantile(U))
    for argument, value in arguments.items():  # each of them matters
        others = {k: v for k, v in arguments.items() if k != argument}
        other = objectives.recipe(name, row, **others).noise.quantile(U)
        assert (np.asarray(other) != np.asarray(found)).any(), (argument, value)


def test_what_is_drawn_by_default():
    drawn = lambda name: objectives.recipe(name, WITHOUT_SIGMA_DATA).noise.quantile(U)
    np.testing.assert_array_equal(drawn("edm"), objectives.log_normal(-1.2, 1.2).quantile(U))
    np.testing.assert_array_equal(drawn("flow"), objectives.log_normal(0.0, 1.0).quantile(U))
    np.testing.assert_array_equal(
        drawn("v"), objectives.cosine(0.002, 80.0, sigma_data=1.0).quantile(U)
    )
    ddpm = objectives.discrete(tables.sigmas(tables.alphas_cumprod("linear", num_train_steps=1000)))
    np.testing.assert_array_equal(drawn("ddpm"), ddpm.quantile(U))


def test_the_weight_of_edm_has_a_sigma_data_of_one_half_unless_the_model_or_the_call_has_one():
    for row, arguments, sigma_data in (
        (WITHOUT_SIGMA_DATA, {}, 0.5),
        (WITHOUT_SIGMA_DATA, {"sigma_data": 0.3}, 0.3),
        (preconditioning.edm(0.3), {}, 0.3),
        (preconditioning.edm(0.3), {"sigma_data": 0.3}, 0.3),
    ):
        wanted = objectives.edm_weight(sigma_data)(SIGMA)
        for name in ("edm", "karras"):
            own = objectives.recipe(name, row, **arguments).weight
            np.testing.assert_array_equal(own(SIGMA), wanted)
        placed = objectives.recipe("ve", row, weight="edm", weight_arguments=arguments).weight
        np.testing.assert_array_equal(placed(SIGMA), wanted)


@pytest.mark.parametrize(
    "weight, wanted",
    [
        ("epsilon", SIGMA**-2),
        ("x0", np.ones(4)),
        ("v", SIGMA**-2 + 1),
        ("flow", (1 + SIGMA) ** 2 / SIGMA**2),
        ("min_snr", np.minimum(SIGMA**-2, 5.0)),
    ],
)
def test_weights_by_name(weight, wanted):
    found = objectives.recipe("edm", EDM, weight=weight)
    np.testing.assert_allclose(found.weight(SIGMA), wanted, rtol=1e-12)
    np.testing.assert_array_equal(found.noise.quantile(U), objectives.log_normal().quantile(U))


def build(name, **arguments):
    row = preconditioning.iddpm()
    return objectives.build(name, Wrapped(lambda x, c_noise: x, row), **arguments)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: objectives.recipe("vp", EDM, weight_arguments={"limit": 4.0}),
            "weight_arguments must be empty where no weight is named, got {'limit': 4.0}",
        ),
        (
            lambda: objectives.recipe("vp", EDM, weight="x0", weight_arguments={"limit": 4.0}),
            "the arguments of 'x0' must be among none, got 'limit'",
        ),
        (
            lambda: objectives.recipe(
                "vp", EDM, weight="edm", weight_arguments={"sigma_data": 1.0}
            ),
            "sigma_data of the weight must be that of the preconditioner, 0.5, got 1.0",
        ),
        (
            lambda: build("iddpm", variance_weight=-0.1),
            "variance_weight must not be negative, got -0.1",
        ),
        (
            lambda: build("edm", variance_weight=0.1),
            "variance_weight must be left out for the objective 'edm', .* got 0.1",
        ),
        (
            lambda: build("ve", importance=True),
            "importance must be left out for the objective 've', .* got True",
        ),
    ],
)
def test_what_does_not_go_together_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_options_that_are_off_may_be_given_to_any_objective():
    assert build("edm", variance_weight=0.0, importance=False).init() == build("edm").init()
