"""What the checks let through, what they refuse, and what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import checks, randomness


def test_a_column_multiplies_each_example_of_a_batch_by_its_own_level():
    x = jnp.arange(24.0).reshape(2, 3, 4) + 1
    product = checks.column(np.array([2.0, 5.0]), x) * x
    np.testing.assert_array_equal(product, np.stack([2 * x[0], 5 * x[1]]))
    assert checks.column(3.0, x).shape == () and checks.column(jnp.ones(2), x).shape == (2, 1, 1)
    assert checks.column(jnp.ones(2), jnp.ones(2)).shape == (2,)
    assert checks.column(jnp.float32(0.1), x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    for sigma, given in ((jnp.ones(3), r"\(3,\)"), (jnp.ones((2, 1)), r"\(2, 1\)")):
        with pytest.raises(ValueError, match=rf"sigma must have shape \[\] or \(2,\), got {given}"):
            checks.column(sigma, x)
    with pytest.raises(ValueError, match="sigma must have shape"):
        checks.column(1.0, jnp.float32(1.0))  # x itself has no batch


def test_keys_are_typed_and_as_many_as_asked_for():
    one, three = jax.random.key(0), randomness.sample_keys(range(3))
    checks.check_keys(three)
    checks.check_keys(three, 3)
    checks.check_keys(one, dimensions=(0, 1))
    checks.check_keys(three, dimensions=(0, 1))
    for keys, options, message in (
        (jax.random.PRNGKey(0), {}, "keys must be typed keys .*, got ArrayImpl of dtype uint32"),
        (7, {"name": "path"}, "path must be typed keys .*, got int of dtype None"),
        (one, {}, r"keys must have shape \[B\], got \(\)"),
        (three, {"dimensions": (0,)}, r"keys must have shape \[\], got \(3,\)"),
        (three[None], {"dimensions": (0, 1)}, r"keys must have shape \[\] or \[B\], got \(1, 3\)"),
        (three, {"batch": 4}, r"keys must have shape \[B\] = \(4,\), got \(3,\)"),
        (three, {"batch": 2}, r"keys must have shape \[B\] = \(2,\), got \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            checks.check_keys(keys, **options)


def test_positive_numbers_and_ranges():
    checks.check_positive(rho=1e-300, std=1e300)
    for value in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"rho must be positive and finite, got {value}"):
            checks.check_positive(std=1.0, rho=value)
    checks.check_range(1.0, 1.001)
    for low, high, message in (
        (1.0, 1.0, "sigma_min must be below sigma_max = 1.0, got 1.0"),
        (2.0, 1.0, "sigma_min must be below sigma_max = 1.0, got 2.0"),
        (0.0, 1.0, "sigma_min must be positive"),
        (1.0, np.inf, "sigma_max must be positive and finite"),
    ):
        with pytest.raises(ValueError, match=message):
            checks.check_range(low, high)


def test_a_grid_descends_strictly_and_may_end_at_0():
    assert checks.descending([3, 2]).dtype == np.float64
    np.testing.assert_array_equal(checks.descending([2, 1, 0]), [2, 1, 0])
    np.testing.assert_array_equal(checks.descending([2, 1e-9], zero=False), [2, 1e-9])
    for levels, options, message in (
        ([1.0], {}, r"sigmas must be a list of at least two levels, got shape \(1,\)"),
        ([[2.0, 1.0]], {}, r"sigmas must be a list .*, got shape \(1, 2\)"),
        ([np.inf, 1.0], {}, "sigmas must be finite, got"),
        ([2.0, np.nan], {"name": "levels"}, "levels must be finite, got"),
        ([2.0, 2.0], {}, "sigmas must descend strictly"),
        ([1.0, 2.0, 0.0], {}, "sigmas must descend strictly"),
        ([1.0, -1.0], {}, "the last of sigmas must be positive or 0, got -1.0"),
        ([1.0, 0.0], {"zero": False}, "the last of sigmas must be positive, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            checks.descending(levels, **options)


def test_a_number_lies_between_two_ends_that_are_allowed():
    assert checks.between("eta", 0, 0.0, 1.0) == 0.0 and checks.between("eta", 1, 0.0, 1.0) == 1.0
    assert checks.between("eta", 1e300, 0.0) == 1e300
    assert checks.between("r", 1e-9, 0.0, 1.0, open_low=True) == 1e-9
    for value, options, message in (
        (-1e-9, {}, r"eta must lie in \[0.0, 1.0\], got -1e-09"),
        (1.1, {}, r"eta must lie in \[0.0, 1.0\], got 1.1"),
        (np.nan, {}, r"eta must lie in \[0.0, 1.0\], got nan"),
        (0.0, {"open_low": True}, r"eta must lie in \(0.0, 1.0\], got 0.0"),
        (1.1, {"open_low": True}, r"eta must lie in \(0.0, 1.0\], got 1.1"),
        ("x", {}, "eta must be a number, got 'x'"),
        (None, {}, "eta must be a number, got None"),
    ):
        with pytest.raises(ValueError, match=message):
            checks.between("eta", value, 0.0, 1.0, **options)


def test_a_word_is_one_of_those_allowed_and_the_nearest_is_named():
    assert checks.one_of("order", 2, (1, 2)) == 2
    for value, message in (
        ("midpont", "solver_type must be one of midpoint, heun, got 'midpont'; "
         "did you mean 'midpoint'?$"),
        ("zzz", "solver_type must be one of midpoint, heun, got 'zzz'$"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message.replace("?", r"\?")):
            checks.one_of("solver_type", value, ("midpoint", "heun"))


def test_a_huge_value_is_quoted_by_its_beginning():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**6, list(range(10**6)), {str(i): [i] * 1000 for i in range(1000)}, deep):
        assert len(checks.quoted(value)) <= 81
        with pytest.raises(ValueError, match="solver must be one of heun, got .{1,81}$"):
            checks.one_of("solver", value, ("heun",))
    for value in ("x", 0.1, (1, 2), [8] * 20, None, {"rho": 7.0}, True, 2**62):
        assert checks.quoted(value) == repr(value)


@pytest.mark.parametrize("value", ["x" * 10**6, 10**400, None, [[]] * 1000])
def test_what_is_no_number_is_named_shortly(value):
    with pytest.raises(ValueError, match="eta must be a number, got .{1,81}$"):
        checks.between("eta", value, 0.0)
