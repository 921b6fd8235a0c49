"""Methods by name: what each asks of a measurement, and that by name it is the same method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, inverse, normal, sample, sample_keys, samplers, timesteps
from edm_jax.inverse import METHODS, check_method, condition, steps
from edm_jax.samplers import Loop

SHAPE = (4, 4, 1)
MASK = inverse.build_operator("inpaint", SHAPE)
PLAIN = inverse.build_operator("fourier", SHAPE)
CURVED = inverse.build_operator("phase-retrieval", SHAPE)
PRIOR = ideal.gaussian(0.0, 0.5)
GRID = timesteps.edm(4)
NOISY, CLEAN = 0.1, 0.0
FOR_CLEAN = "projection steps.pigdm steps.ddnm steps.repaint steps.score_sde"


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_draws(name):
    sigma_y = CLEAN if "no noise" in METHODS[name].needs else NOISY
    assert check_method(name, MASK, SHAPE, sigma_y) is METHODS[name]
    keys = sample_keys(range(3))
    y = MASK(normal(sample_keys(range(3, 6)), SHAPE))
    sampler = GRID if METHODS[name].samples else samplers.ddpm(GRID)
    denoise, run = condition(name, PRIOR, MASK, y, sigma_y, sampler)
    assert isinstance(run, Loop) == METHODS[name].samples
    draw = jax.jit(lambda noise, keys: sample(denoise, run, noise, keys))
    assert jnp.isfinite(draw(normal(keys, SHAPE), keys)).all()


@pytest.mark.slow
def test_by_name_it_is_the_function_with_its_options():
    y = MASK(normal(sample_keys([1, 2]), SHAPE))
    x = normal(sample_keys([3, 4]), SHAPE)
    denoise, same = condition("jfps", PRIOR, MASK, y, NOISY, "sampler", prior_variance=0.3)
    assert same == "sampler"
    expected = inverse.jfps(PRIOR, MASK, y, NOISY, prior_variance=0.3)(x, 1.0)
    np.testing.assert_array_equal(denoise(x, 1.0), expected)
    _, run = condition("steps.ddrm", PRIOR, MASK, y, NOISY, GRID, eta=0.5)
    keys = sample_keys([5, 6])
    wanted = sample(PRIOR, steps.ddrm(MASK, y, GRID, NOISY, eta=0.5), x, keys)
    np.testing.assert_array_equal(sample(PRIOR, run, x, keys), wanted)


@pytest.mark.parametrize(
    "operator, sigma_y, refused",
    [
        (MASK, NOISY, FOR_CLEAN),
        (MASK, CLEAN, "dps"),
        (PLAIN, NOISY, f"{FOR_CLEAN} steps.ddnm_plus steps.ddrm"),
        (CURVED, CLEAN, "dps steps.repaint steps.score_sde steps.ddnm_plus steps.ddrm"),
        (lambda x: x + 1.0, CLEAN, "dps steps.repaint steps.score_sde steps.ddnm_plus steps.ddrm"),
    ],
    ids=["a mask with noise", "without", "frequencies", "moduli", "affine"],
)  # fmt: skip
def test_what_a_method_is_not_for(operator, sigma_y, refused):
    found = set()
    for name in METHODS:
        try:
            check_method(name, operator, SHAPE, sigma_y)
        except ValueError as error:
            message = str(error)
            offered = message.partition("(")[2].partition(")")[0].split(", ")
            assert message.endswith(f"got {name!r}") and not set(offered) & set(refused.split())
            found.add(name)
    assert found == set(refused.split())


@pytest.mark.parametrize(
    "name, sigma_y, options, message",
    [
        ("ddrm", 0.1, {}, "did you mean 'steps.ddrm'"),
        ("mmps", float("nan"), {}, "sigma_y must be finite"),
        ("mmps", -0.1, {}, "sigma_y must be finite and not negative"),
        ("mmps", 0.1, {"eta": 1.0}, "an option of the method 'mmps' must be one of iterations"),
        ("tmpd", 0.1, {"eta": 1.0}, "must be given no options"),
    ],
)
def test_what_is_refused(name, sigma_y, options, message):
    with pytest.raises(ValueError, match=message):
        check_method(name, MASK, SHAPE, sigma_y, **options)


def test_needs_are_known():
    assert set().union(*(method.needs for method in METHODS.values())) == set(inverse.NEEDS)
    assert inverse.DEFAULT_METHOD in METHODS and not METHODS[inverse.DEFAULT_METHOD].needs
