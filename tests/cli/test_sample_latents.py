"""Samples of a model of latents: .npy files, or images by a decoder of one's own."""

import json

import numpy as np
import pytest
from PIL import Image

from edm_jax import latents, samplers, timesteps
from edm_jax.cli.main import main
from edm_jax.generation import draw

DECODER = """
import numpy as np

def decode(z):
    assert z.dtype == np.float32 and z.shape[1:] == (4, 4, 4)
    return np.repeat(z[..., :1] / 20 + 0.5, 3, axis=-1).repeat(2, axis=1).repeat(2, axis=2)

def gray(z):
    return decode(z)[..., :1]

def wrong(z):
    return z
"""


@pytest.fixture
def command(saved_latent_model, tmp_path, monkeypatch):
    """Runs the command on it; returns the exit code and the folder of the samples."""
    (tmp_path / "of_the_user.py").write_text(DECODER)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(*options):
        out = tmp_path / "out"
        words = ["sample", "--checkpoint", saved_latent_model, "--out", str(out)]
        words += ["--seeds", "0-2", "--batch", "1", "--solver", "euler", "--steps", "3"]
        return main([*words, *options]), out

    return run


@pytest.fixture(scope="module")
def wanted(latent_model):
    """The latents of seeds 0 to 2, [3, 4, 4, 4], as a decoder takes them."""
    return latents.raw(draw(latent_model, samplers.euler(timesteps.edm(3)), np.arange(3)))


def test_latents_are_written_and_the_command_says_so(command, wanted, capsys):
    code, out = command()
    assert code == 0 and "latents, float32 [4, H, W]; --decoder makes" in capsys.readouterr().out
    found = np.stack([np.load(out / f"{seed:06d}.npy") for seed in range(3)])
    assert found.dtype == np.float32 and not list(out.glob("*.png"))
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), wanted, atol=1e-4)
    # As encoders give them: of ImageNet's mean and deviation, if the model were of it.
    _, variance = samplers.moments(samplers.euler(timesteps.edm(3)), 0.0, 0.25)
    spread = (found - np.array(latents.MEAN)[:, None, None]).std((0, 2, 3))
    np.testing.assert_allclose(spread, 2 * variance**0.5 * np.array(latents.STD), rtol=0.3)
    assert json.loads((out / "dataset.json").read_text())["labels"] is None


def test_a_decoder_makes_images(command, wanted):
    code, out = command("--decoder", "of_the_user:decode")
    assert code == 0
    for seed in range(3):
        found = np.asarray(Image.open(out / f"{seed:06d}.png")).astype(float)
        assert found.shape == (8, 8, 3)
        exact = 255 * np.clip(wanted[seed, ..., :1] / 20 + 0.5, 0, 1)
        error = exact.repeat(2, axis=0).repeat(2, axis=1) - found  # truncated, not rounded
        assert error.min() > -0.01 and error.max() < 1.01
    assert (out / "grid.png").exists()


def test_latents_are_measured_as_images(command, saved_latent_model, tmp_path, capsys):
    data = ["--data=digits", f"--dest={tmp_path}/digits.npz", "--features=pixels", "--keep=9"]
    assert main(["evaluate", "reference", *data, "--quiet"]) == 0
    words = ["evaluate", "fid", f"--reference={tmp_path}/digits.npz", "--features=pixels"]
    words += [f"--checkpoint={saved_latent_model}", f"--out={tmp_path}/x.json", "--fewer"]
    words += ["--num=8", "--solver=euler", "--steps=3", "--batch=1", "--quiet"]
    assert main(words) == 2
    assert "--decoder must be given for a model of latents" in capsys.readouterr().err
    assert main([*words, "--decoder=of_the_user:gray"]) == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["images"]["uint8"] == "of the decoder"
    assert record["images"]["made_with"]["decoder"] == "of_the_user:gray"


@pytest.mark.parametrize(
    "options, message",
    [
        (["--decoder", "nothing"], "--decoder must look like MODULE:FUNCTION, got 'nothing'"),
        (["--decoder", "of_the_user:no"], "--decoder must be a function that can be imported"),
        (["--decoder", "of_the_user:wrong"], "--decoder must give images [3, H, W, C] with 1 or 3"),
        (["--trajectory", "x.png"], "--trajectory must be left out for latents, got x.png"),
    ],
    ids=["no function", "unknown", "latents", "paths"],
)
def test_what_cannot_be_decoded_is_named(command, capsys, options, message):
    code, out = command(*options)
    assert code == 2 and message in capsys.readouterr().err
    assert not list(out.glob("*.png"))
