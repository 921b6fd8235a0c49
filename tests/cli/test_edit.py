"""The command edit: each task's images and record, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from edm_jax import generation, latents, load, randomness, samplers, timesteps
from edm_jax.cli import edit as edit_command
from edm_jax.cli.main import main
from edm_jax.data import archive
from edm_jax.model import Model
from edm_jax.weights import save


def edit(saved, out, *options):
    few = ["--data=digits", "--num=3", "--columns=2", "--steps=4", f"--out={out}"]
    return main(["edit", f"--checkpoint={saved}", *few, *options])


def pixels(out, row, column):
    return np.asarray(Image.open(out / f"{row:03d}-{column:03d}.png"))[:, :, None]


@pytest.mark.slow
def test_redrawing(saved, tmp_path):
    out = tmp_path / "new" / "redrawn"
    assert edit(saved, out, "--sigma-max=0.8", "--label=3", "--solver=heun") == 0
    record = json.loads((out / "edit.json").read_text())
    assert record["seeds"] == [[0, 3], [1, 4], [2, 5]]
    assert record["sigmas"][0] == pytest.approx(0.8)
    data = archive.load("digits")
    chosen = record["images"]
    np.testing.assert_array_equal(pixels(out, 1, 0), data.images[chosen[1]])
    images = np.asarray(data.images[chosen], np.float32) / 127.5 - 1
    labels = np.eye(10, dtype=np.float32)[[3, 3, 3]]
    tableau = samplers.heun(timesteps.edm(4, sigma_max=0.8))
    drawn = generation.redraw(
        load(saved), tableau, images, np.array([3, 4, 5]), class_labels=labels
    )
    expected = np.asarray(generation.to_uint8(drawn))
    assert np.abs(pixels(out, 1, 2).astype(int) - expected[1]).max() <= 1
    assert (out / "grid.png").exists()


@pytest.mark.slow
def test_interpolation_and_reconstruction(saved, tmp_path, capsys):
    assert edit(saved, tmp_path / "a", "--task=interpolate", "--quiet") == 0
    assert sorted(p.name for p in (tmp_path / "a").glob("0*.png"))[-1] == "001-003.png"
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err == ""
    assert edit(saved, tmp_path / "b", "--task=reconstruct") == 0
    record = json.loads((tmp_path / "b" / "edit.json").read_text())
    assert len(record["error"]) == 3
    back = pixels(tmp_path / "b", 0, 2).astype(float) - pixels(tmp_path / "b", 0, 0)
    # Rounded and clipped to bytes, the error that is told.
    assert np.sqrt(np.mean(back**2)) / 127.5 <= record["error"][0] + 0.01


@pytest.mark.slow
def test_guided_edits(model, saved, tmp_path):
    """They are drawn by the guided denoiser, of the model itself or of another."""
    config = dataclasses.replace(model.config, label_dropout=0.1)
    dropped = Model.build(config, model.params)
    save(dropped, tmp_path / "dropped")
    free = ["--guidance=3", "--threshold=static"]
    given = [*free, "--sigma-max=3", "--label=3", "--solver=euler"]
    assert edit(tmp_path / "dropped", tmp_path / "a", *given) == 0
    record = json.loads((tmp_path / "a" / "edit.json").read_text())
    assert (record["guidance"], record["threshold"]) == (3.0, "static")
    data = archive.load("digits")
    images = np.asarray(data.images[record["images"]], np.float32) / 127.5 - 1
    guided = generation.guided(dropped, 3.0, threshold="static")
    labels = np.eye(10, dtype=np.float32)[[3, 3, 3]]
    tableau = samplers.euler(timesteps.edm(4, sigma_max=3.0))
    seeds = np.array([0, 1, 2])
    shown = pixels(tmp_path / "a", 1, 1).astype(int)

    def expected(model):
        drawn = generation.redraw(model, tableau, images, seeds, class_labels=labels)
        return np.asarray(generation.to_uint8(drawn))[1]

    assert np.abs(shown - expected(guided)).max() <= 1
    assert np.abs(shown - expected(dropped)).max() > 2
    options = ["--task=reconstruct", "--guidance=1.5", f"--guide={saved}"]
    assert edit(tmp_path / "dropped", tmp_path / "b", *options) == 0
    record = json.loads((tmp_path / "b" / "edit.json").read_text())
    assert record["guided_by"]["checkpoint"] == saved


def test_latents(saved_latent_model, latent_model, latent_data, tmp_path, capsys, monkeypatch):
    folder, moments = latent_data
    given = [f"--data={folder}", "--sigma-max=0.8", "--solver=euler"]
    assert edit(saved_latent_model, tmp_path / "a", *given) == 0
    assert "latents, float32 [4, H, W]; --decoder makes" in capsys.readouterr().out
    chosen = json.loads((tmp_path / "a" / "edit.json").read_text())["images"]
    assert chosen == [0, 13, 26] and not list((tmp_path / "a").glob("*.png"))
    read = lambda row, column: np.load(tmp_path / "a" / f"{row:03d}-{column:03d}.npy")
    # The first is sure of itself, the second drawn from its number in the data.
    np.testing.assert_allclose(read(0, 0).transpose(1, 2, 0), moments[0, ..., :4], atol=1e-5)
    images = latents.draw(randomness.sample_keys(chosen), moments[chosen])
    np.testing.assert_allclose(read(1, 0).transpose(1, 2, 0), latents.raw(images[1]), atol=1e-5)
    assert np.abs(read(1, 0).transpose(1, 2, 0) - moments[13, ..., :4]).max() > 1
    tableau = samplers.euler(timesteps.edm(4, sigma_max=0.8))
    drawn = latents.raw(generation.redraw(latent_model, tableau, images, np.array([3, 4, 5])))
    np.testing.assert_allclose(read(2, 2).transpose(1, 2, 0), drawn[2], atol=1e-4)

    (tmp_path / "gray_of.py").write_text("def decode(z):\n    return z[..., :1] / 20 + 0.5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    given = [f"--data={folder}", "--task=reconstruct", "--decoder=gray_of:decode"]
    assert edit(saved_latent_model, tmp_path / "b", *given) == 0
    said = capsys.readouterr().out
    assert "grid.png" in said and "of latents of deviation 0.5" in said
    assert not list((tmp_path / "b").glob("*.npy"))
    shown = np.clip(moments[0, ..., :1] / 20 + 0.5, 0, 1) * 255
    assert np.abs(pixels(tmp_path / "b", 0, 0) - shown).max() < 1.01


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "--sigma-max must be given"),
        (["--sigma-max=1", "--label=12"], "--label must be one of the model's 10 classes"),
        (["--sigma-max=1", "--label=none"], "--label must be 'own' or a class where"),
        (["--sigma-max=1", "--num=0"], "--num must be at least 1"),
        (["--task=interpolate", "--num=1"], "--num must be at least 2"),
        (["--task=interpolate", "--label=1"], "--label must be left out of --task interpolate"),
        (["--task=reconstruct", "--solver=heun"], "--solver must be left out of --task"),
        (["--sigma-max=1", "--solver=predictor_corrector"], "--solver must be a tableau"),
        (["--sigma-max=1", "--data=/nowhere"], "nowhere"),
        (["--sigma-max=1", "--decoder=a:b"], "--decoder must be left out for a model of images"),
        (["--sigma-max=1", "--guidance=2"], "trained without label dropout"),
        (["--sigma-max=1", "--guide=uncond"], "--guidance must be given with --guide"),
        (["--sigma-max=1", "--guidance=2", "--guidance-interval=2,1"], "0 <= LOW < HIGH"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(saved, tmp_path, capsys, options, message):
    assert edit(saved, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_kept(saved, tmp_path, capsys):
    assert edit(saved, tmp_path, "--sigma-max=1") == 2
    assert "--out must be a new folder" in capsys.readouterr().err


@pytest.mark.slow
def test_unlabelled_images_can_be_redrawn_as_a_class(saved, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, pixels in enumerate(archive.load("digits").images[:3]):
        Image.fromarray(pixels[:, :, 0]).save(photos / f"{i}.png")
    given = (f"--data={photos}", "--sigma-max=0.8")
    assert edit(saved, tmp_path / "a", *given, "--label=3") == 0
    assert edit(saved, tmp_path / "b", *given) == 2
    assert "--data must have 10 classes" in capsys.readouterr().err


def test_an_edit_that_fails_leaves_no_folder(saved, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(edit_command.pictures, "write", full)
    assert edit(saved, tmp_path / "out", "--sigma-max=0.8") == 2
    assert not list(tmp_path.iterdir())
