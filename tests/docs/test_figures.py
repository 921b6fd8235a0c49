"""The scripts of docs/figures: their numbers are right, and each writes its picture."""

import importlib
import pathlib
import sys

import jax
import numpy as np
import pytest

FIGURES = pathlib.Path(__file__).parents[2] / "docs" / "figures"
SCRIPTS = sorted(p.stem for p in FIGURES.glob("*.py") if p.stem != "drawing")


@pytest.fixture(scope="module")
def scripts():
    """Returns a function: the name of a script -> its module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FIGURES))
        yield importlib.import_module
    for name in [*SCRIPTS, "drawing"]:
        sys.modules.pop(name, None)


def test_the_page_shows_every_picture():
    page = (FIGURES.parent / "pictures.md").read_text()
    for name in SCRIPTS:
        assert f"(figures/{name}.png)" in page and f"(figures/{name}.py)" in page
        assert (FIGURES / f"{name}.png").stat().st_size < 150_000


@pytest.mark.slow
def test_errors_of_steps_have_their_order(scripts):
    module = scripts("truncation")
    sigmas = lambda ratio: np.array([0.8, 0.8 * ratio, 0.0])
    for solver, order in ((module.samplers.euler, 1), (module.samplers.heun, 2)):
        with jax.enable_x64(True):
            long, short = (module.errors(sigmas(r), solver, 64)[0] for r in (0.9, 0.95))
        assert np.log2(long / short) == pytest.approx(order + 1, abs=0.35)


@pytest.mark.slow
def test_losses_begin_and_end_where_theory_has_them(scripts):
    before, least = scripts("training_noise").losses(np.array([0.005, 0.4, 100.0]))
    assert (least <= before).all() and before[0] == pytest.approx(1, abs=0.02)
    # No noise level below the data's own width leaves anything to learn; at 0.4 nearly all is.
    assert least[0] == pytest.approx(1, abs=0.02) and least[1] < 0.12


@pytest.mark.slow
def test_the_posterior_has_two_peaks_of_the_weights_of_the_arms(scripts):
    module = scripts("inpainting")
    x = np.linspace(-1.6, 1.6, 321)
    lower = module.posterior(x)[x < -0.3].sum() * (x[1] - x[0])
    drawn = (module.draws("mmps") < -0.3).mean()
    assert lower == pytest.approx(drawn, abs=0.05)


@pytest.mark.slow
def test_a_script_writes_its_picture(scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flow", str(tmp_path)])
    scripts("flow").main()
    assert [p.name for p in tmp_path.iterdir()] == ["flow.png"]
