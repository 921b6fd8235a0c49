"""The command evaluate bpd: its numbers, going on after a stop, what may be compared, errors."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from small_network import model_of

from edm_jax import ideal, likelihood, randomness
from edm_jax.cli import plot_levels, plots
from edm_jax.cli.main import main
from edm_jax.data import archive
from edm_jax.evaluation import likelihoods
from edm_jax.networks import ddpmpp
from edm_jax.runtime import pictures, processes
from edm_jax.weights import save

COUNT = 12  # on eight devices: two batches
FEW = "--num=12 --batch=1 --ode-steps=2 --ode-solver=heun --elbo-levels=8 --num-probes=2".split()


def measure(checkpoint, out, *options):
    command = ["evaluate", "bpd", f"--checkpoint={checkpoint}", f"--out={out}", "--data=digits"]
    return main([*command, *FEW, *options])


@pytest.fixture(scope="module")
def model(small_networks):
    config = ddpmpp(
        resolution=8, channels=1, label_dim=10, channel_mult=(1,), num_blocks=1, dropout=0.0
    )
    return model_of(config)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "saved"
    save(model, path)
    return path


@pytest.fixture(scope="module")
def zero(model, tmp_path_factory):
    """A network of zeros: exactly the denoiser of N(0, 0.5^2)."""
    path = tmp_path_factory.mktemp("zero") / "zero"
    save(model.replace(params=jax.tree.map(lambda p: 0 * p, model.params)), path)
    return path


@pytest.fixture(scope="module")
def record(zero, tmp_path_factory):
    path = tmp_path_factory.mktemp("bpd") / "zero.json"
    assert measure(zero, path) == 0
    return path


@pytest.mark.slow
def test_a_network_of_zeros_gives_the_number_that_it_must(record):
    found = json.loads(record.read_text())
    rows = np.linspace(0, 1797, COUNT, endpoint=False).astype(int)
    keys = randomness.fold_in(jax.random.key(0), rows)
    y = likelihood.dequantize(archive.load("digits").images[rows], randomness.split(keys, 3)[0])
    nats = ideal.gaussian_log_prob(0.0, 0.5)(y, 0.002)
    bits = np.asarray(-nats / 64 / np.log(2) + np.log2(127.5), np.float64)
    score = found["scores"]["bits_per_dim"]
    assert score["mean"] == pytest.approx(bits.mean(), rel=1e-6)
    assert score["standard_error"] == pytest.approx(bits.std(ddof=1) / COUNT**0.5, rel=1e-5)
    # The exact denoiser's bound is tight, but for eight levels' noise.
    terms = found["elbo_terms"]
    total = terms["prior"] + sum(terms["intervals"]) + terms["decoder"]
    assert found["scores"]["elbo_bits_per_dim"]["mean"] == pytest.approx(total, rel=1e-6)
    assert total == pytest.approx(bits.mean(), abs=0.6)
    assert len(terms["intervals"]) == len(terms["sigma"]) - 1 == 7
    assert 0 < found["round_trip_error"] < 1e-5
    assert found["images"]["count"] == COUNT and found["settings"]["probes"] == "rademacher"


@pytest.mark.slow
def test_a_stopped_command_goes_on_to_the_same_numbers(zero, record, tmp_path, monkeypatch):
    out = tmp_path / "zero.json"
    batches = likelihoods.batches

    def stopped(*args, **options):
        yield next(batches(*args, **options))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(likelihoods, "batches", stopped)
        assert measure(zero, out) == 130
    assert not out.exists() and len(list(tmp_path.iterdir())) == 1
    seen = []

    def rest(model, settings, rows, indices, **options):
        seen.append(len(indices))
        return batches(model, settings, rows, indices, **options)

    monkeypatch.setattr(likelihoods, "batches", rest)
    assert measure(zero, out) == 0
    assert seen == [COUNT - 8]
    assert json.loads(out.read_text()) == json.loads(record.read_text())
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_processes_share_the_images(zero, record, tmp_path, monkeypatch):
    out = tmp_path / "zero.json"
    monkeypatch.setattr(processes, "process_count", lambda: 2)
    for index in (1, 0):  # the second begins, and waits for nobody
        monkeypatch.setattr(processes, "process_index", lambda index=index: index)
        monkeypatch.setattr(processes, "is_main", lambda index=index: index == 0)
        assert not out.exists() and measure(zero, out) == 0
    assert json.loads(out.read_text()) == json.loads(record.read_text())
    assert list(tmp_path.iterdir()) == [out]


def test_the_grid_is_the_one_that_is_asked_for(model):
    by_name = likelihoods.Settings(
        steps=5, elbo_levels=4, timesteps="exponential", timesteps_options={"sigma_min": 0.02}
    )
    levels, elbo_levels = likelihoods.grids(model, by_name)
    np.testing.assert_allclose(levels, np.geomspace(80.0, 0.02, 6), rtol=1e-12)
    np.testing.assert_allclose(elbo_levels, np.geomspace(80.0, 0.02, 4), rtol=1e-12)
    # One program serves equal settings, and another grid has another one.
    again = likelihoods.Settings(
        steps=5, elbo_levels=4, timesteps="exponential", timesteps_options={"sigma_min": 0.02}
    )
    other = dataclasses.replace(by_name, timesteps_options={"sigma_min": 0.03})
    made = [likelihoods.compiled(settings, 1) for settings in (by_name, again, other)]
    assert made[0] is made[1] and made[0] is not made[2]


def test_a_plot_of_the_terms_by_level(tmp_path):
    terms = {"sigma": [4.0, 2.0, 1.0], "intervals": [0.5, 1.0], "prior": 0.1, "decoder": 0.2}
    axes = Figure().subplots()
    plot_levels.draw(axes, terms)
    x, y = axes.lines[0].get_xydata().T
    np.testing.assert_allclose(x, [8**0.5, 2**0.5])
    np.testing.assert_allclose(y, np.array([0.5, 1.0]) / np.log(2))
    plots.write(lambda axes: plot_levels.draw(axes, terms), tmp_path / "x.png")
    assert pictures.read(tmp_path / "x.png").shape[2] >= 3


def test_a_picture_needs_matplotlib_before_anything_is_measured(
    saved, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert measure(saved, tmp_path / "x.json", f"--plot={tmp_path / 'x.png'}") == 2
    assert "--plot needs matplotlib: pip install 'edm_jax[plot]'" in capsys.readouterr().err


@pytest.mark.slow
def test_what_may_be_compared(saved, record, tmp_path, capsys):
    other, fewer = tmp_path / "other.json", tmp_path / "fewer.json"
    picture = tmp_path / "levels.png"
    assert measure(saved, other, f"--plot={picture}", "--sigma-min=0.002") == 0
    assert picture.exists()
    assert json.loads(other.read_text())["scores"]["bits_per_dim"]["probe_error"] > 0
    assert "bits/dim by the probability flow" in capsys.readouterr().out
    assert main(["evaluate", "compare", str(record), str(other)]) == 0
    assert "elbo_bits_per_dim" in capsys.readouterr().out
    assert measure(saved, fewer, "--num=9") == 0
    assert main(["evaluate", "compare", str(record), str(fewer)]) == 1
    assert "the numbers of images differ: 12 and 9" in capsys.readouterr().out


def test_a_record_is_not_replaced_unasked(saved, record, tmp_path, capsys):
    picture = tmp_path / "levels.png"
    picture.touch()
    assert measure(saved, tmp_path / "x.json", f"--plot={picture}") == 2
    assert "levels.png: exists already" in capsys.readouterr().err
    before = record.read_bytes()
    assert measure(saved, record) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err
    assert record.read_bytes() == before


@pytest.mark.parametrize(
    "options, message",
    [
        (["--num=1"], "--num must be at least 2, got 1"),
        (["--num=1798"], "--num must be at most 1797, got 1798"),
        (["--batch=0"], "--batch must be at least 1, got 0"),
        (["--ode-steps=0"], "steps must lie in [1"),
        (["--ode-solver=euler"], "invalid choice: 'euler'"),
        (["--elbo-levels=1"], "elbo_levels must lie in [2"),
        (["--timesteps=edn"], "grid must be one of"),
        (["--timesteps-option=final=sigma_min"], "timesteps_options must leave out final"),
        (["--timesteps-option=shift=2"], "an option of the grid 'edm'"),
        (["--coordinator=localhost:1"], "must be given together"),
        (["--num-probes=0"], "num_probes must lie in [1"),
        (["--data=/none.zip"], "/none.zip"),
        (["--checkpoint=/none"], "/none"),
    ],
)
def test_bad_input_is_one_line_and_code_2(saved, tmp_path, options, message, capsys):
    assert measure(saved, tmp_path / "x.json", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_likelihood_that_is_no_number_is_an_error(model, tmp_path, capsys):
    save(model.replace(params=jax.tree.map(lambda p: p + jnp.nan, model.params)), tmp_path / "nan")
    assert measure(tmp_path / "nan", tmp_path / "x.json") == 2
    assert "likelihood of image 0 is not a finite number" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


@pytest.mark.slow
def test_latents_have_no_pixels(small_networks, tmp_path, capsys):
    config = ddpmpp(resolution=8, channels=4, channel_mult=(1,), num_blocks=1)
    save(model_of(config), tmp_path / "latents")
    assert measure(tmp_path / "latents", tmp_path / "x.json") == 2
    assert "--checkpoint must be a model of pixels" in capsys.readouterr().err


def test_a_consistency_model_has_no_likelihood(small_networks, tmp_path, capsys):
    config = ddpmpp(
        resolution=8, channels=1, channel_mult=(1,), num_blocks=1, preconditioner="consistency"
    )
    save(model_of(config), tmp_path / "consistency")
    assert measure(tmp_path / "consistency", tmp_path / "x.json") == 2
    assert "model must be a denoiser to have a likelihood" in capsys.readouterr().err
