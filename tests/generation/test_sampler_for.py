"""A sampler by its names is the one that a few lines of Python would make."""

import types

import numpy as np
import pytest

from edm_jax import generation, preconditioning, samplers, schedules, timesteps


def model_of(row, name="edm", predicts_variance=False, classifies=False):
    config = types.SimpleNamespace(
        preconditioner=name,
        predicts_variance=predicts_variance,
        classifies=classifies,
        is_consistency=name == "consistency",
    )
    return types.SimpleNamespace(preconditioner=row, config=config)


EDM = model_of(preconditioning.edm())
TABLE = preconditioning.epsilon([0.5, 1.0, 2.0, 4.0, 8.0])
NARROW = model_of(preconditioning.edm()._replace(sigma_min=0.05, sigma_max=10.0))
CONSISTENCY = model_of(preconditioning.consistency(sigma_min=0.01), "consistency")


def test_by_default_it_is_the_solver_and_the_steps_named_in_one_place():
    wanted = samplers.build(samplers.DEFAULT_SOLVER, timesteps.edm(samplers.DEFAULT_STEPS))
    assert generation.sampler_for(EDM) == wanted
    assert generation.default_solver(EDM) == samplers.DEFAULT_SOLVER
    assert generation.sampler_for(EDM, 5, solver="heun") == samplers.heun(timesteps.edm(5))


def test_the_grid_stays_within_the_levels_of_the_model_and_takes_its_options():
    grid = lambda **given: timesteps.edm(6, sigma_min=0.05, sigma_max=10.0, **given)
    assert generation.sampler_for(NARROW, 6, solver="ddim") == samplers.ddim(grid())
    found = generation.sampler_for(
        NARROW, 6, solver="ddim", timesteps_options={"rho": 3.0}, options={"eta": 0.5}
    )
    assert found == samplers.ddim(grid(rho=3.0), eta=0.5)
    found = generation.sampler_for(NARROW, 6, solver="ddim", timesteps="exponential")
    assert found == samplers.ddim(timesteps.exponential(6, sigma_min=0.05, sigma_max=10.0))


def test_a_classifier_is_not_drawn_from():
    with pytest.raises(ValueError, match="model must be a denoiser to be drawn from"):
        generation.sampler_for(model_of(preconditioning.edm(), classifies=True))


def test_a_network_with_a_table_is_asked_for_its_levels_alone():
    model, grid = model_of(TABLE), timesteps.edm(20, sigma_min=0.5, sigma_max=8.0)
    found = generation.sampler_for(model, 20, solver="ddim")
    assert found.sigma.tolist() == [8, 4, 2, 1, 0.5]
    # A solver that rounds by itself does: its levels between the grid's are rounded too.
    found = generation.sampler_for(model, 20, solver="heun")
    assert found == samplers.heun(grid, round_sigma=TABLE.round_sigma)
    assert set(found.sigma) <= {8, 4, 2, 1, 0.5}
    unrounded = generation.sampler_for(model, 20, solver="heun", options={"round_sigma": None})
    assert unrounded == samplers.heun(grid)


@pytest.mark.parametrize(
    "given, schedule",
    [
        ({"schedule": "ve"}, schedules.ve()),
        ({"schedule": "ve", "scaling": "vp"}, schedules.with_vp_scaling(schedules.ve())),
        ({"scaling": "vp"}, schedules.with_vp_scaling(schedules.edm())),
        ({"scaling": "none"}, schedules.edm()),
        ({"schedule": "vp"}, schedules.FROM_RANGE["vp"](0.05, 10.0)),
        (
            {"schedule": "vp", "scaling": "none"},
            schedules.without_scaling(schedules.FROM_RANGE["vp"](0.05, 10.0)),
        ),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else "",
)
def test_the_process_is_the_one_that_is_named(given, schedule):
    grid = timesteps.edm(6, sigma_min=0.05, sigma_max=10.0)
    for solver in ("euler", "heun"):
        found = generation.sampler_for(NARROW, 6, solver=solver, **given)
        assert found == samplers.build(solver, grid, schedule=schedule)


def test_a_consistency_model_ends_at_the_level_that_it_maps_to():
    assert generation.default_solver(CONSISTENCY) == "consistency"
    found = generation.sampler_for(CONSISTENCY, 3)
    grid = timesteps.edm(3, sigma_min=0.01, final="sigma_min")
    assert found == samplers.consistency(grid, sigma_min=grid[-1])
    assert found.weights[-1, 0, -1] == 0 and found.sigma[-1] > 0.01
    asked = generation.sampler_for(CONSISTENCY, 3, timesteps_options={"sigma_min": 0.02})
    grid = timesteps.edm(3, sigma_min=0.02, final="sigma_min")
    assert asked == samplers.consistency(grid, sigma_min=grid[-1])


def test_a_model_tuned_to_consistency_is_drawn_from_in_two_calls_unless_told_otherwise():
    """It maps to 0, and the grid goes there: from 80 by 80 / 2^rho in two calls."""
    model = model_of(preconditioning.consistency(sigma_min=0.0, noise_scale=0.25), "consistency")
    assert generation.default_steps(model) == 2
    assert generation.default_steps(EDM) == samplers.DEFAULT_STEPS
    found = generation.sampler_for(model)
    assert found == samplers.consistency([80.0, 80.0 / 2**7, 0.0], sigma_min=0.0)
    assert generation.sampler_for(model, 1) == samplers.consistency([80.0, 0.0], sigma_min=0.0)
    published = generation.sampler_for(model, timesteps_options={"rho": np.log2(80.0 / 0.821)})
    np.testing.assert_allclose(published.sigma, [80.0, 0.821])
    with pytest.raises(ValueError, match="num_steps must be a positive integer, got 0"):
        generation.sampler_for(model, 0)
    with pytest.raises(ValueError, match="sigma_min must be positive"):  # ln 0 is no level
        generation.sampler_for(model, timesteps="exponential")


@pytest.mark.parametrize(
    "model, solver, message",
    [
        (EDM, "ddim_inversion", "solver must be one that starts from noise; .*'ddim_inversion'"),
        (EDM, "consistency", "solver must be for denoisers; .* 'edm', got 'consistency'"),
        (EDM, "improved_ddpm", "solver must be for this network; .*, got 'improved_ddpm'"),
        (CONSISTENCY, "heun", "denoiser to be drawn from by 'heun', got a consistency model"),
        (EDM, "hune", "solver must be one of .*, got 'hune'; did you mean 'heun'"),
    ],
)
def test_a_solver_that_the_model_cannot_serve_is_named_with_its_reason(model, solver, message):
    with pytest.raises(ValueError, match=message):
        generation.sampler_for(model, 4, solver=solver)


def test_what_has_no_process_is_given_none():
    for given, word in (({"schedule": "ve"}, "schedule"), ({"scaling": "vp"}, "scaling")):
        message = rf"{word} must be given to a solver that has one \(.*heun.*\), got '.*'ddim'"
        with pytest.raises(ValueError, match=message):
            generation.sampler_for(EDM, 4, solver="ddim", **given)
    with pytest.raises(ValueError, match="scaling must be one of none, vp, got 've'"):
        generation.sampler_for(EDM, 4, solver="heun", scaling="ve")


def test_a_network_that_predicts_a_variance_may_use_it():
    model = model_of(preconditioning.edm(), predicts_variance=True)
    assert generation.sampler_for(model, 4, solver="improved_ddpm").variance
    assert np.isfinite(generation.sampler_for(model, 4).weights).all()
