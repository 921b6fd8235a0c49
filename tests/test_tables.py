"""Tables of other sizes and offsets than the published ones, in closed form; and their limits."""

import numpy as np
import pytest

from edm_jax import tables


def test_the_levels_of_iddpm_have_a_closed_form():
    """The recursion telescopes: u_j^2 + 1 = abar_M / abar_j, and 1/C_1 times u_1^2 + 1 at j = 0."""
    m, c_1, c_2 = 5, 0.01, 0.1
    bar = np.sin(np.pi / 2 * np.arange(1, m + 1) / (m * (c_2 + 1))) ** 2
    inside = bar[-1] / bar
    wanted = np.sqrt(np.append(inside[0] / c_1, inside) - 1)
    found = {
        variant: tables.iddpm(m, c_1=c_1, c_2=c_2, variant=variant)
        for variant in ("network", "sampler", "exact")
    }
    np.testing.assert_allclose(found["exact"], wanted, rtol=1e-12, atol=1e-7)
    for variant in ("network", "sampler"):
        np.testing.assert_allclose(found[variant], wanted, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(tables.iddpm(m, c_1=c_1, c_2=c_2), found["network"])
    assert tables.iddpm(1, variant="exact")[-1] == 0


@pytest.mark.parametrize("name", tables.BETAS)
def test_alpha_bar_is_the_product_of_what_each_step_leaves(name):
    count = 100
    share = np.arange(count) / (count - 1)
    cosine = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
    left = {
        "linear": 1 - 10 * (1e-4 + share * (0.02 - 1e-4)),
        "scaled_linear": 1 - (0.00085**0.5 + share * (0.012**0.5 - 0.00085**0.5)) ** 2,
        "cosine": np.maximum(cosine[1:] / cosine[:-1], 0.001),
    }[name]
    found = tables.alphas_cumprod(name, num_train_steps=count)
    np.testing.assert_allclose(found, np.multiply.accumulate(left), rtol=1e-9)
    np.testing.assert_array_equal(
        tables.alphas_cumprod(name), tables.alphas_cumprod(name, num_train_steps=1000)
    )
    assert tables.alphas_cumprod(name, num_train_steps=1).shape == (1,)


def test_a_table_may_begin_with_clean_data_and_have_one_level():
    np.testing.assert_allclose(tables.sigmas([1.0, 0.5, 0.2]), [0, 1, 2])
    assert tables.sigmas([0.5]).tolist() == [1.0]


def test_leading_indices_move_up_to_the_end_of_the_table():
    leading = lambda n, offset: tables.indices(n, 1000, spacing="leading", offset=offset).tolist()
    assert leading(4, 249) == [999, 749, 499, 249]
    assert leading(1, 7) == [7] and leading(1, 0) == [999]
    assert tables.indices(3, 10, spacing="leading").tolist() == [6, 3, 0]
    assert tables.indices(2, 1000).tolist() == [999, 499]


# Of ln(sigma): a changed digit changes it.
@pytest.mark.parametrize(
    "model, total",
    [("sd15", 1.0525918), ("sdxl", -1.9518714), ("deepfloyd", -3.1788418), ("svd", 5.1409187)],
)
def test_the_published_levels_of_align_your_steps(model, total):
    levels = np.array(tables.ALIGN_YOUR_STEPS[model])
    assert levels.shape == (11,) and (np.diff(levels) < 0).all()
    assert np.log(levels).sum() == pytest.approx(total, abs=1e-6)


def test_the_levels_for_stable_diffusion_xl_are_those_of_its_published_time_steps():
    """... which are whole numbers: to within one step of the table."""
    levels = tables.sigmas(tables.alphas_cumprod("scaled_linear"))
    steps = [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]
    nearest = np.abs(levels[:, None] - tables.ALIGN_YOUR_STEPS["sdxl"][:-1]).argmin(0)
    assert np.abs(nearest - steps).max() <= 1


@pytest.mark.parametrize(
    "make, message",
    [
        *(
            (lambda bar=bar: tables.sigmas(bar), r"must be \[T\] values in \(0, 1\], got")
            for bar in ([], [[0.5]], [1.1, 0.5], [0.5, np.nan], [0.5, -0.1])
        ),
        (lambda: tables.sigmas([0.5, 0.5]), "must descend strictly"),
        (lambda: tables.alphas_cumprod(num_train_steps=10.0), "a positive integer, got 10.0"),
        (lambda: tables.indices(0, 10), r"num_levels must lie in \[1, 10\].* got 0"),
        (
            lambda: tables.indices(2, 10, spacing="leading", offset=-1),
            r"offset must lie in \[0, 4\], got -1",
        ),
        (lambda: tables.iddpm(0), "num_train_steps must be a positive integer, got 0"),
        (lambda: tables.iddpm(c_1=1.0), "c_1 must lie in"),
        (lambda: tables.iddpm(c_2=-1e-9), r"c_2 in \[0, inf\), got 0.001 and -1e-09"),
    ],
)
def test_what_is_no_table_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
