"""The command posterior-variance: a file to sample with, the same for a seed; errors."""

import dataclasses

import numpy as np
import pytest
from small_network import model_of

from edm_jax import latents, samplers, timesteps
from edm_jax.cli.main import main
from edm_jax.data import archive
from edm_jax.networks import ddpmpp
from edm_jax.weights import posterior_variance, save


def measure(saved, out, *options):
    few = ["--num=40", "--levels=4", "--batch=20"]
    return main(
        [
            "posterior-variance",
            f"--checkpoint={saved}",
            "--data=digits",
            f"--out={out}",
            *few,
            *options,
        ]
    )


def sample(saved, out, *options):
    few = ["--seeds=0-1", "--batch=2", "--steps=3"]
    return main(["sample", f"--checkpoint={saved}", f"--out={out}", *few, *options])


@pytest.fixture(scope="module")
def measured(saved, tmp_path_factory):
    path = tmp_path_factory.mktemp("variance") / "variance.npz"
    assert measure(saved, path) == 0
    return path


@pytest.mark.slow
def test_a_seed_decides_the_file(saved, measured, tmp_path):
    assert measure(saved, tmp_path / "again.npz") == 0
    first, again = (
        posterior_variance.load(measured),
        posterior_variance.load(tmp_path / "again.npz"),
    )
    np.testing.assert_array_equal(first.value, again.value)
    np.testing.assert_allclose(first.sigma, np.geomspace(80, 0.002, 4), rtol=1e-6)
    assert measure(saved, tmp_path / "other.npz", "--seed=1") == 0
    assert (posterior_variance.load(tmp_path / "other.npz").value != first.value).any()


def test_a_network_of_zeros_gives_the_number_that_it_must(tmp_path):
    """A network of zero output is D = w x, whose mean square on any data is known."""
    config = ddpmpp(
        resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,),
        num_blocks=1, attn_resolutions=(), dropout=0.0,
    )  # fmt: skip
    save(model_of(config, scale=0.0), tmp_path / "zero")
    assert measure(tmp_path / "zero", tmp_path / "g.npz") == 0
    found = posterior_variance.load(tmp_path / "g.npz")
    rows = np.linspace(0, 1797, 40, endpoint=False).astype(int)
    power = ((archive.load("digits").images[rows] / 127.5 - 1.0) ** 2).mean()
    w = 0.25 / (0.25 + found.sigma**2)
    error = (1 - w) ** 2 * power + w**2 * found.sigma**2  # of D = w (y + sigma n)
    np.testing.assert_allclose(found.sigma**2 * (1 - found.value), error, rtol=0.1)


def test_of_latents_their_own_variance_counts(saved_latent_model, latent_data, tmp_path):
    folder, moments = latent_data
    out = tmp_path / "g.npz"
    assert measure(saved_latent_model, out, f"--data={folder}") == 0
    found = posterior_variance.load(out)
    mean = moments[..., :4] * latents.SCALE + latents.BIAS
    power = (mean**2 + (moments[..., 4:] * latents.SCALE) ** 2).mean()
    w = 0.25 / (0.25 + found.sigma**2)
    error = (1 - w) ** 2 * power + w**2 * found.sigma**2
    np.testing.assert_allclose(found.sigma**2 * (1 - found.value), error, rtol=0.1)


@pytest.mark.slow
def test_sampling_uses_it(saved, measured, tmp_path, capsys):
    option = f"--option=posterior_variance={measured}"
    assert sample(saved, tmp_path / "a", "--solver=analytic_dpm", option) == 0
    assert sample(saved, tmp_path / "b", "--solver=ddpm", "--option=variance=analytic", option) == 0
    assert sample(saved, tmp_path / "c", "--solver=ddpm") == 0
    analytic, same, small = (
        (tmp_path / name / "000001.png").read_bytes() for name in ("a", "b", "c")
    )
    assert analytic == same != small


def test_the_sampler_holds_the_variances_of_the_file(saved, measured):
    levels = timesteps.edm(3)
    variance = posterior_variance.load(measured)
    noises = samplers.analytic_dpm(levels, posterior_variance=variance).weights[:, 0, -1]
    assert noises[-1] == pytest.approx(np.sqrt(variance(levels[-2])))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--data=/none.zip"], "/none.zip"),
        (["--out=/proc/none/there/g.npz"], "/proc/none"),
        (["--out=http://host/g.npz"], "must be on a disk or begin with gs://"),
        (["--num=0"], "--num must be at least 1, got 0"),
        (["--levels=1"], "--levels must be at least 2, got 1"),
        (["--checkpoint=/none/there"], "/none/there"),
    ],
)
def test_bad_input_is_one_line_and_code_2(saved, tmp_path, options, message, capsys):
    assert measure(saved, tmp_path / "g.npz", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and error[-1].startswith("error: ")
    assert not (tmp_path / "g.npz").exists()


def test_data_must_be_what_the_model_is_for(model, tmp_path, capsys):
    config = dataclasses.replace(model.config, label_dim=9)
    save(model_of(config), tmp_path / "nine")
    assert measure(tmp_path / "nine", tmp_path / "g.npz") == 2
    assert "--data must have 9 classes, as the model has, got 10" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"not a file of ours", "npz"])
def test_a_wrong_file_is_named(saved, tmp_path, content, capsys):
    path = tmp_path / "variance.npz"
    if content == "npz":
        np.savez(path, a=1)
    elif content is not None:
        path.write_bytes(content)
    assert (
        sample(
            saved, tmp_path / "x", "--solver=analytic_dpm", f"--option=posterior_variance={path}"
        )
        == 2
    )
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and str(path) in error
