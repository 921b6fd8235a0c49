"""Grids against published and reference levels, and what every grid has in common."""

import math

import numpy as np
import pytest

from edm_jax import schedules, tables, timesteps

EDM_18 = """80 57.5859847 40.7855738 28.3745846 19.3524530 12.9100824 8.40093531 5.31519452
    3.25682152 1.92333984 1.08817064 0.585348123 0.296442284 0.139516469 0.0599473112 0.0229345184
    0.00752801996 0.002"""
# name -> levels of eight steps over the default range, from a run of the reference.
EIGHT = {
    "vp": """152.1669703 40.40197123 13.10668919 5.139419943 2.350116972 1.152332791 0.4959063382
        0.01048599279""",
    "ve": """100 29.61936296 8.773066621 2.598526445 0.7696669794 0.2279704562 0.06752339687
        0.02""",
    "edm": "80 34.992189 13.69857468 4.637074969 1.28661427 0.2674753614 0.03518665099 0.002",
    "iddpm": """80.20367618 4.199536938 2.051729026 1.249799999 0.8024252552 0.4890799641
        0.2394060424 0.006422469581""",
}


def numbers(text):
    return np.array([float(word) for word in text.split()] + [0.0])


def test_edm_levels():
    np.testing.assert_allclose(timesteps.edm(18), numbers(EDM_18), rtol=5e-9)


@pytest.mark.parametrize("name", EIGHT)
def test_reference_levels(name):
    # The sines of the iddpm table are float32 there: the last digit depends on the library.
    rtol = 1e-6 if name == "iddpm" else 5e-10
    np.testing.assert_allclose(timesteps.GRIDS[name].make(8), numbers(EIGHT[name]), rtol=rtol)


@pytest.mark.parametrize("name", timesteps.GRIDS)
def test_every_grid_descends_to_zero(name):
    grid = timesteps.GRIDS[name].make
    for num_steps in (1, 2, 3, 10, 77):
        sigmas = grid(num_steps)
        assert sigmas.dtype == np.float64 and sigmas.shape == (num_steps + 1,)
        assert (np.diff(sigmas) < 0).all() and sigmas[-1] == 0.0
    for bad in (0, -1, 2.5, None):
        with pytest.raises(ValueError, match=f"num_steps must be a positive integer, got {bad}"):
            grid(bad)


# name -> (first level, last positive level) of the default range.
ENDS = {
    "edm": (80.0, 0.002),
    "vp": (152.1669702839464, 0.010485992786706),
    "ve": (100.0, 0.02),
    "iddpm": (80.2036762, 0.00642246958),
    "exponential": (80.0, 0.002),
    "polyexponential": (80.0, 0.002),
    "align_your_steps": (14.615, 0.029),
}


@pytest.mark.parametrize("name", ENDS)
def test_range_and_single_step(name):
    grid, (high, low) = timesteps.GRIDS[name].make, ENDS[name]
    for num_steps in (1, 2, 9):
        kept = grid(num_steps, final="sigma_min")
        np.testing.assert_allclose(kept[[0, -1]], (high, low), rtol=1e-7)
        assert kept.shape == (num_steps + 1,) and (np.diff(kept) < 0).all()
    np.testing.assert_allclose(grid(1), (high, 0.0), rtol=1e-7)
    if name != "align_your_steps":  # whose published last level gives way to zero
        np.testing.assert_allclose(grid(9)[[0, -2]], (high, low), rtol=1e-7)
    with pytest.raises(ValueError, match="final must be 'zero' or 'sigma_min', got 'none'"):
        grid(3, final="none")


@pytest.mark.parametrize("name", ["edm", "vp", "ve", "exponential", "polyexponential", "tangent"])
def test_bad_ranges_are_named(name):
    grid = timesteps.GRIDS[name].make
    for low, high, message in (
        (-0.1, 1.0, "sigma_min must be positive and finite, got -0.1"),
        (2.0, 1.0, "sigma_min must be below sigma_max = 1.0, got 2.0"),
        (0.1, math.inf, "sigma_max must be positive and finite, got inf"),
        (math.nan, 1.0, "sigma_min must be positive and finite, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            grid(4, sigma_min=low, sigma_max=high)


def test_vp_is_uniform_in_the_refit_time():
    sigmas = timesteps.vp(5, sigma_min=0.002, sigma_max=80.0, final="sigma_min")
    np.testing.assert_allclose(sigmas[[0, -1]], (80.0, 0.002), rtol=1e-9)
    b_d, b_min = 17.537956987, -0.004768986
    t = (-b_min + np.sqrt(b_min**2 + 2 * b_d * np.log1p(sigmas**2))) / b_d
    np.testing.assert_allclose(np.diff(t), (1e-3 - 1) / 5, rtol=1e-6)


def test_limits_of_the_families():
    np.testing.assert_allclose(timesteps.edm(9, rho=1.0)[:-1], np.linspace(80.0, 0.002, 9))
    np.testing.assert_allclose(timesteps.edm(9, rho=1e6), timesteps.exponential(9), rtol=1e-4)
    np.testing.assert_allclose(timesteps.polyexponential(9), timesteps.exponential(9), rtol=1e-12)
    np.testing.assert_allclose(np.diff(np.log(timesteps.exponential(9)[:-1])), -math.log(4e4) / 8)
    with pytest.raises(ValueError, match="rho must be positive"):
        timesteps.edm(9, rho=0.0)


@pytest.mark.parametrize("num_steps, published", [(5, 0.781), (10, 0.885), (20, 0.941)])
def test_tangent_is_the_best_grid_of_euler_on_gaussian_data(num_steps, published):
    # Euler contracts the deviation by prod cos(d theta), theta = atan(sigma / 0.5).
    def contraction(sigmas):
        return np.prod(np.cos(np.diff(np.arctan(sigmas / 0.5))))

    best = timesteps.tangent(num_steps, sigma_min=0.002, final="sigma_min")
    assert contraction(best) == pytest.approx(published, abs=6e-4)
    whole = timesteps.tangent(num_steps)
    angle = math.atan(160.0)
    assert contraction(whole) == pytest.approx(math.cos(angle / num_steps) ** num_steps, rel=1e-12)
    assert contraction(timesteps.edm(num_steps, final="sigma_min")) < contraction(best)
    rng = np.random.default_rng(0)
    for _ in range(50):
        moved = whole.copy()
        moved[1:-1] *= np.exp(0.1 * rng.standard_normal(num_steps - 1))
        assert contraction(moved) < contraction(whole)


def test_tangent_keeps_its_end():
    sigmas = timesteps.tangent(6, sigma_min=0.01)
    assert sigmas.shape == (7,) and sigmas[-1] == 0.0
    np.testing.assert_allclose(sigmas[-2], 0.01)


def test_shift_is_the_time_shift_of_flow_matching():
    t = np.linspace(0.999, 0.0, 12)
    shifted = 3.0 * t / (1.0 + 2.0 * t)
    sigmas = timesteps.flow(11, factor=3.0)
    np.testing.assert_allclose(sigmas, shifted / (1.0 - shifted), rtol=1e-12)
    np.testing.assert_array_equal(timesteps.shift(timesteps.flow(11), 3.0), sigmas)
    with pytest.raises(ValueError, match="factor must be positive and finite, got 0.0"):
        timesteps.shift(sigmas, 0.0)
    with pytest.raises(ValueError, match=r"t_max must lie in \(0, 1\), got 1.0"):
        timesteps.flow(4, t_max=1.0)


def test_from_schedule():
    geometric = schedules.ve_geometric(sigma_min=0.02, sigma_max=100.0)
    by_time = timesteps.from_schedule(8, geometric, t_min=0.0)
    np.testing.assert_allclose(by_time, timesteps.ve(8), rtol=1e-12)
    vp = timesteps.from_schedule(8, schedules.vp())
    np.testing.assert_allclose(vp, timesteps.vp(8), rtol=1e-9)
    # EDM's grid is uniform in t^(1/7) of its own schedule.
    edm = timesteps.from_schedule(18, schedules.edm(), t_max=80.0, t_min=0.002, power=7.0)
    np.testing.assert_allclose(edm, timesteps.edm(18), rtol=1e-12)
    down = timesteps.from_schedule(4, schedules.edm(), t_max=8.0, t_min=0.0, power=2.0)
    np.testing.assert_allclose(down, [8.0, 4.5, 2.0, 0.5, 0.0], rtol=1e-12)
    for arguments, message in (
        ({"t_min": 1.0}, r"t_min must lie in \[0, t_max = 1.0\), got 1.0"),
        ({"power": 0.0}, "power must be positive"),
        ({"schedule": schedules.flow()}, "t_max and t_min must give finite .* got 1.0 and 0.001"),
    ):
        with pytest.raises(ValueError, match=message):
            timesteps.from_schedule(**{"num_steps": 4, "schedule": schedules.vp()} | arguments)


def test_align_your_steps():
    ten = timesteps.align_your_steps(10, model="sdxl")
    np.testing.assert_allclose(ten[:-1], tables.ALIGN_YOUR_STEPS["sdxl"][:-1], rtol=1e-12)
    # The published time steps of Stable Diffusion 1.5, in its own table.
    levels = tables.sigmas(tables.alphas_cumprod("scaled_linear"))
    steps = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
    sd15 = timesteps.align_your_steps(10, model="sd15")[:-1]
    np.testing.assert_allclose(sd15, levels[steps], rtol=5e-3)
    # Twice the steps: every other level is published, those between are geometric means.
    twenty = timesteps.align_your_steps(20, model="sdxl", final="sigma_min")
    np.testing.assert_allclose(twenty[::2], tables.ALIGN_YOUR_STEPS["sdxl"], rtol=1e-12)
    np.testing.assert_allclose(twenty[1::2] ** 2, twenty[:-1:2] * twenty[2::2], rtol=1e-12)
    with pytest.raises(ValueError, match="model must be one of .*'svd'.*got 'sd4'"):
        timesteps.align_your_steps(10, model="sd4")


class TestTables:
    """tables.py: alpha-bar, spacings and the levels of iDDPM."""

    def test_known_levels(self):
        linear, stable, cosine = (
            tables.sigmas(tables.alphas_cumprod(b)) for b in ("linear", "scaled_linear", "cosine")
        )
        np.testing.assert_allclose(linear[[0, -1]], (0.0100005, 157.40728), rtol=1e-6)
        np.testing.assert_allclose(stable[[0, -1]], (0.0291671, 14.6146412), rtol=2e-6)
        np.testing.assert_allclose(cosine[[0, -2, -1]], (0.00642541, 641.66235, 20291.1696), 1e-6)

    def test_fewer_training_steps_cover_the_same_range(self):
        last = tables.alphas_cumprod("linear", num_train_steps=250)[-1]
        assert math.log(last) == pytest.approx(math.log(tables.alphas_cumprod()[-1]), rel=0.03)

    @pytest.mark.parametrize(
        "spacing, offset, expected",
        [
            ("leading", 0, [750, 500, 250, 0]),
            ("leading", 1, [751, 501, 251, 1]),
            ("trailing", 0, [999, 749, 499, 249]),
            ("linspace", 0, [999, 666, 333, 0]),
            ("quadratic", 0, [800, 355, 88, 0]),
            ("truncated", 0, [999, 749, 499, 249]),
        ],
    )
    def test_spacing(self, spacing, offset, expected):
        np.testing.assert_array_equal(
            tables.indices(4, 1000, spacing=spacing, offset=offset), expected
        )
        levels = tables.sigmas(tables.alphas_cumprod())
        grid = timesteps.ddpm(4, spacing=spacing, offset=offset)
        np.testing.assert_array_equal(grid[:-1], levels[expected])

    @pytest.mark.parametrize("spacing", tables.SPACINGS)
    def test_a_single_step_starts_at_the_highest_level(self, spacing):
        highest = tables.sigmas(tables.alphas_cumprod())[-1]
        np.testing.assert_array_equal(timesteps.ddpm(1, spacing=spacing), (highest, 0.0))

    @pytest.mark.parametrize("spacing", tables.SPACINGS)
    def test_all_steps_are_the_whole_table(self, spacing):
        bar = tables.alphas_cumprod("linear", num_train_steps=50)
        whole = timesteps.from_alphas_cumprod(bar, 50, spacing=spacing)
        np.testing.assert_array_equal(whole, np.append(tables.sigmas(bar)[::-1], 0.0))
        np.testing.assert_array_equal(timesteps.from_alphas_cumprod(bar), whole)
        to_min = timesteps.from_alphas_cumprod(bar, final="sigma_min")
        np.testing.assert_array_equal(to_min, whole[:-1])

    @pytest.mark.parametrize("spacing", tables.SPACINGS)
    def test_no_level_is_visited_twice(self, spacing):
        for num_levels in (2, 3, 50, 100, 333, 500, 900, 999, 1000):
            index = tables.indices(num_levels, 1000, spacing=spacing)
            assert len(index) == num_levels and (np.diff(index) < 0).all()
            assert index[-1] >= 0 and index[0] < 1000

    def test_signal_to_noise(self):
        bar = np.array([0.9, 0.5, 0.1])
        np.testing.assert_allclose(tables.sigmas(bar) ** -2, bar / (1 - bar))

    # Levels j of the three tables in use.
    @pytest.mark.parametrize(
        "variant, rtol, expected",
        [
            (
                "network",
                2e-5,
                """20291.1699 641.662354 80.2036972 6.36459112 1.01238894 0.16943571 0.0251310728
                0.00934774894 0.00642233714""",
            ),
            (
                "sampler",
                2e-5,
                """20291.1624 641.662132 80.2036762 6.3645903 1.01238918 0.169435188 0.0251318979
                0.00934805552 0.00642246958""",
            ),
            (
                "exact",
                1e-8,
                """20291.1696 641.662345 80.2037018 6.36459187 1.01238956 0.169435642 0.0251332522
                0.00935049284 0.00642541277""",
            ),
        ],
    )
    def test_iddpm(self, variant, rtol, expected):
        u = tables.iddpm(variant=variant)
        assert u.shape == (1001,) and u[-1] == 0 and (np.diff(u) < 0).all()
        assert u.dtype == (np.float32 if variant == "network" else np.float64)
        j = [0, 1, 8, 100, 500, 900, 990, 998, 999]
        np.testing.assert_allclose(u[j], numbers(expected)[:-1], rtol=rtol)

    def test_iddpm_is_the_cosine_table_upside_down(self):
        levels = tables.sigmas(tables.alphas_cumprod("cosine"))
        np.testing.assert_allclose(tables.iddpm(variant="exact")[-2::-1], levels, rtol=1e-9)

    def test_iddpm_ties(self):
        # With 992 levels kept the middle of an odd number of steps is a tie, which the rounding
        # error of the reference's order of operations sends down for these.
        kept = tables.iddpm(variant="sampler")[8:1000]
        for num_steps in range(3, 130, 2):
            middle = timesteps.iddpm(num_steps)[(num_steps - 1) // 2]
            index = 495 if num_steps in (59, 99, 103, 117, 123) else 496
            assert middle == kept[index], num_steps

    @pytest.mark.parametrize(
        "make, message",
        [
            (lambda: timesteps.iddpm(993), "num_steps = 993 needs 993 levels.* holds 992"),
            (lambda: timesteps.iddpm(2, sigma_min=1.0, sigma_max=1.0001), "holds 0"),
            (lambda: timesteps.ddpm(1001), r"num_levels must lie in \[1, 1000\].*got 1001"),
            (lambda: timesteps.ddpm(4, betas="exp"), "betas must be one of .*got 'exp'"),
            (lambda: timesteps.ddpm(4, spacing="even"), "spacing must be one of .*got 'even'"),
            (lambda: timesteps.ddpm(4, spacing="leading", offset=250), r"in \[0, 249\], got 250"),
            (lambda: timesteps.ddpm(4, spacing="trailing", offset=1), "offset must be 0 with"),
            (lambda: timesteps.ddpm(4, num_train_steps=0), "num_train_steps must be a positive"),
            (lambda: tables.sigmas([0.5, 0.0]), r"values in \(0, 1\]"),
            (lambda: tables.sigmas([0.5, 0.6]), "descend strictly"),
            (lambda: tables.iddpm(variant="torch"), "variant must be one of .*got 'torch'"),
            (lambda: tables.iddpm(c_1=0.0), "c_1 must lie in"),
        ],
    )
    def test_bad_arguments_are_named(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()
